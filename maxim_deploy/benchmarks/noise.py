"""Judge whether a measurement can be trusted: other load on the machine, and scatter of times.

With these limits, two runs on a machine without warnings should agree within 5 %.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from maxim_deploy._optional import require
from maxim_deploy.benchmarks.summary import spread
from maxim_deploy.benchmarks.timing import MIN_ROUNDS
from maxim_deploy.machine.sensors import GpuSensors

TOO_NOISY = 0.05
"""Limit of `spread`. With this spread the median of seven rounds is known to about 5 %."""

FOREIGN_CPU = 0.05
"""Share of the processors that other programs may use. An idle server's own services take 1 %."""

BUSY = 0.2
"""Share of the processors in use just before a run above which another program is running. The load
average does not serve: a minute after a run it still shows that run. With two other programs on two
cores, PyTorch on a small network took 23 ms once and 420 ms another time."""

MOVED = 1.5
"""Ratio of two hand-offs above which the host has moved the processors; see `handoff`. One machine
had 80 and 280 ns, each within 10 %."""


class Watch:
    """Watches the machine while subjects are timed.

    Args:
        pids: measured processes; this process always counts as one.
        sensors: sensors of the GPU, or None.
        handoff: `handoff.handoff_ns` for the processors in use; None if their placement does not
            matter.

    Raises:
        MissingDependencyError: psutil is not installed.
    """

    def __init__(
        self,
        pids: Iterable[int],
        sensors: GpuSensors | None,
        handoff: Callable[[], float | None] | None = None,
    ) -> None:
        self._psutil = require("psutil", "bench")
        self._pids = [os.getpid(), *pids]
        self._sensors = sensors
        self._throttled: set[str] = set()
        self._handoff = handoff
        self._handoffs: list[float] = []
        self.gpu_state: dict[str, Any] | None = None
        # Counters only grow, so `foreign_cpu` uses their gain since now.
        self._start = self._machine(), self._own()

    def sample(self) -> None:
        """Read the GPU's sensors. Call this while it is still warm from a turn."""
        if self._sensors:
            self.gpu_state = self._sensors.read()
            self._throttled.update(self.gpu_state["throttled"])

    def sample_at_rest(self) -> None:
        """Measure the hand-off between processors. Call this while they are idle."""
        ns = self._handoff() if self._handoff else None
        if ns is not None:
            self._handoffs.append(ns)
        elif not self._handoffs:
            self._handoff = None  # not available here, so do not try again

    @property
    def handoff_ns(self) -> dict[str, float] | None:
        """`median` of the samples, and their deciles `low` and `high`; None without samples."""
        if not self._handoffs:
            return None
        low, middle, high = np.percentile(self._handoffs, (10, 50, 90)).tolist()
        return {"low": low, "median": middle, "high": high}

    @property
    def throttled(self) -> list[str]:
        """Reasons for a slowed-down GPU in any sample."""
        return sorted(self._throttled)

    def foreign_cpu(self) -> float:
        """Share of all processors that other programs used since the beginning, with steal time."""
        (busy, total), own = self._machine(), self._own()
        (busy_before, total_before), own_before = self._start
        foreign = (busy - busy_before) - (own - own_before)
        # Counters of the machine and of processes tick separately, so the difference may be
        # slightly below 0.
        return max(0.0, foreign) / max(total - total_before, 1e-9)

    def _machine(self) -> tuple[float, float]:
        """Processor seconds: busy ones, and all."""
        times = self._psutil.cpu_times()
        # The user time includes a guest's time already.
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        # Steal time counts as busy: the host took it from the subjects for other guests.
        total = sum(times) - guest
        return total - times.idle - getattr(times, "iowait", 0.0), total

    def _own(self) -> float:
        return sum(map(self._of_process, self._pids))

    def _of_process(self, pid: int) -> float:
        try:
            times = self._psutil.Process(pid).cpu_times()
        except self._psutil.NoSuchProcess:
            return 0.0  # the process has failed, which is reported elsewhere
        # Ended children count too. The children of this process are the samples at rest.
        children = times.children_user + times.children_system
        return float(times.user + times.system + children)


def busy(seconds: float = 0.5) -> float:
    """Share of the processors that is busy while this process sleeps for `seconds`.

    Raises:
        MissingDependencyError: psutil is not installed.
    """
    return float(require("psutil", "bench").cpu_percent(seconds)) / 100


def moved(one_ns: float | None, other_ns: float | None) -> bool:
    """Whether two hand-offs show different states of a machine; False if one is unknown."""
    if one_ns is None or other_ns is None:
        return False
    return max(one_ns, other_ns) > MOVED * min(one_ns, other_ns)


def spread_of(rounds_by_bracket: Iterable[Sequence[Sequence[float]]]) -> float:
    """The largest spread of the rounds' medians, over the brackets."""
    return max(spread([median(turn) for turn in rounds]) for rounds in rounds_by_bracket)


def warnings_of(
    noise: Mapping[str, Any],
    *,
    pause_s: float,
    busy_before: float | None,
    throttled: Sequence[str],
    unstable: Sequence[str],
    rounds: int,
) -> list[str]:
    """Warnings about the numbers of a subject.

    Args:
        noise: its `noise` in the record.
        pause_s: rest after each turn.
        busy_before: busy share of the processors before the run, or None.
        throttled: reasons for a slowed-down GPU.
        unstable: brackets whose warm-up did not become stable.
        rounds: fewest rounds of any bracket.
    """
    found = []
    if (noise["spread"] or 0) > TOO_NOISY:
        found.append(
            f"too noisy: the middle half of the rounds is {noise['spread']:.0%} wide, more than "
            f"{TOO_NOISY:.0%}"
        )
    if (noise["foreign_cpu"] or 0) > FOREIGN_CPU:
        found.append(f"other programs used {noise['foreign_cpu']:.0%} of the processors")
    if (busy_before or 0) > BUSY:
        found.append(f"the machine was busy before the run ({busy_before:.0%} of its processors)")
    found += _of_handoff(noise.get("handoff_ns"), noise.get("handoff_before_ns"))
    if noise["idle_cpu_s"] >= max(pause_s, 0.1):
        found.append(
            f"its threads were busy for {noise['idle_cpu_s']:.2f} s of rest and may have taken "
            "the processors from the next subject | raise pause_s"
        )
    found += [f"the GPU was slowed down: {reason}" for reason in throttled]
    found += [f"{bracket} did not become stable while it was warmed up" for bracket in unstable]
    if rounds < MIN_ROUNDS:
        found.append(f"{rounds} rounds, too few to tell differences from noise ({MIN_ROUNDS})")
    return found


def _of_handoff(now: Mapping[str, float] | None, before: Sequence[float] | None) -> list[str]:
    if now is None:
        return []
    found, low, high = [], now["low"], now["high"]
    if moved(low, high):
        found.append(
            "too noisy: the host moved the processors during the run; a cache line took "
            f"{low:.0f} to {high:.0f} ns from one to the next"
        )
    if before and moved(min(before[0], now["median"]), max(before[1], now["median"])):
        found.append(
            f"this machine has several states: a cache line took {now['median']:.0f} ns from one "
            f"processor to the next, and {before[0]:.0f} to {before[1]:.0f} in earlier "
            "comparisons; times differ with it"
        )
    return found
