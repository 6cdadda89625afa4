"""Timing several subjects against each other on a machine that is never quite idle.

All subjects are timed once per round, in turn, so that what slows the machine for a while slows
all of them. The order is reversed in every second round: over two rounds a steady drift falls on
all alike. What counts is the ratio of two subjects within a round; its median over the rounds is
the result and its range over the rounds the noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from maxim_deploy.errors import UsageError

MIN_ROUNDS = 5
"""A median of fewer says little, and its range less."""

Measure = Callable[[], float]
"""Runs a subject once; returns the seconds that it took."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of times that was taken once per round: its median and its range."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def stopwatch(run: Callable[[], object], clock: Measure = time.perf_counter) -> Measure:
    """A measure of `run` by wall time; nothing but the call is inside the bracket."""

    def measure() -> float:
        start = clock()
        run()
        return clock() - start

    return measure


def interleaved(
    subjects: Mapping[str, Measure],
    *,
    rounds: int,
    warmup: int,
    settle: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time all subjects in turn.

    Args:
        subjects: what to time, by name.
        rounds: timings per subject that count.
        warmup: untimed runs of each subject before the first round.
        settle: called after each run, so that threads of one subject which still spin do not take
            a core from the next.

    Returns:
        By name, the seconds of every round in order.

    Raises:
        UsageError: there is nothing to time, or there are too few rounds.
    """
    if not subjects:
        raise UsageError("there is nothing to time")
    if rounds < MIN_ROUNDS:
        raise UsageError(f"rounds must be at least {MIN_ROUNDS}, not {rounds}")
    for measure in subjects.values():
        for _ in range(warmup):
            measure()
            settle()
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in reversed(seconds) if number % 2 else seconds:
            seconds[name].append(subjects[name]())
            settle()
    return seconds


def ratio(seconds: Sequence[float], to: Sequence[float]) -> Ratio:
    """`seconds` over `to`, round by round.

    Raises:
        UsageError: they are not of the same rounds.
    """
    if len(seconds) != len(to) or not seconds:
        raise UsageError(f"{len(seconds)} and {len(to)} rounds have no ratio")
    ratios = [own / other for own, other in zip(seconds, to, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
