"""Processors used by other processes, from two readings of the system's counters. Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from maxim_deploy.machine.processors import usable_processors, visible_processors

_STAT = Path("/proc/stat")

LEAST_S = 0.05
"""Seconds between the two readings: the counters tick a hundred times a second."""

SOMETHING = 0.3
"""Processors in use that count as busy. A busy process takes 0.5 to 1, idle services take 0.02."""

_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of a processor that count: user, nice, system, irq, softirq, and steal (time given to
other virtual machines). Idle time and disk waits are free. Guest time is already part of user
time."""


class LoadWatch:
    """Reads the counters when it is made, and again when it is asked.

    Make it before work that takes a while anyway, such as loading a network, to avoid waiting.
    """

    def __init__(self) -> None:
        self._start = _look()

    def others(self) -> float | None:
        """Processors used by other processes since then, among those that this process may use.

        It waits if the first reading is too recent. None if the system has no counters.
        """
        if self._start is None:
            return None
        began, busy, own = self._start
        time.sleep(max(0.0, began + LEAST_S - time.perf_counter()))
        now = _look()
        if now is None:
            return None
        taken = (now[1] - busy) - (now[2] - own)
        # The two counters tick at different moments, so slightly negative values mean zero.
        return max(0.0, taken / (now[0] - began))

    def is_shared(self) -> bool:
        """Whether others use processors that our threads need; False without counters."""
        others = self.others()
        # A quota allows fewer processors than there are, so others may use the rest.
        spare = visible_processors() - usable_processors()
        return others is not None and others - spare > SOMETHING


def _look() -> tuple[float, float, float] | None:
    """Seconds: the clock, the busy time of our processors, and the time of this process."""
    with suppress(OSError, ValueError):
        busy = _busy_ticks(_STAT.read_text("ascii").splitlines()) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, time.process_time()
    return None


def _busy_ticks(lines: Iterable[str]) -> int:
    own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    found = [line.split() for line in lines if line.partition(" ")[0] in own]
    if not found:
        raise ValueError("no counters of these processors")
    return sum(int(columns[1 + column]) for columns in found for column in _BUSY)
