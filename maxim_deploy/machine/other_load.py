"""How many processors others use: from two looks at the system's counters. Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from maxim_deploy.machine.processors import usable_processors, visible_processors

_STAT = Path("/proc/stat")

LEAST_S = 0.05
"""Between the two looks: the counters tick a hundred times a second."""

SOMETHING = 0.3
"""Processors. Another busy process has 0.5 to 1, an idle machine's own services have 0.02."""

_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of a processor: user, nice, system, irq, softirq; steal is what other guests were given.
Idle and waiting for disks are free, and a guest's time is the user's already."""


class LoadWatch:
    """Looks when it is made, and again when it is asked.

    Make it before work that takes a while anyway, such as opening a network: nobody waits then.
    """

    def __init__(self) -> None:
        self._start = _look()

    def others(self) -> float | None:
        """Processors that other processes have used since, of those that this one may run on.

        Waits if it was made just now. None where the system does not tell.
        """
        if self._start is None:
            return None
        began, busy, own = self._start
        time.sleep(max(0.0, began + LEAST_S - time.perf_counter()))
        now = _look()
        if now is None:
            return None
        taken = (now[1] - busy) - (now[2] - own)
        # The two counters tick apart, so a little less than nothing is nothing.
        return max(0.0, taken / (now[0] - began))

    def is_shared(self) -> bool:
        """Whether others use processors that our threads would run on; False if nobody tells."""
        others = self.others()
        # A quota fills fewer processors than there are: others may have the rest for themselves.
        spare = visible_processors() - usable_processors()
        return others is not None and others - spare > SOMETHING


def _look() -> tuple[float, float, float] | None:
    """Seconds: the clock, those that our processors were busy, and those of this process."""
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
