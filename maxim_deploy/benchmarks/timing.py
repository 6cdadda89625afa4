"""Time several subjects against each other on a machine that is never fully idle.

All subjects have one turn per round, so a slow phase of the machine affects all. Every second round
is in reverse order, so a steady drift affects all alike. The ratio of two subjects is taken within
a round. The result is the median ratio over the rounds, with its confidence interval as the noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import NamedTuple, TypeVar

from maxim_deploy.errors import UsageError

MIN_ROUNDS = 6
"""Least rounds for a verdict. The range of six contains the median with 97 % confidence, that of
five only with 94 %."""

STABLE = 0.05
"""Runs are warm when two windows in a row differ by no more than this share."""

WINDOW_MS = 50.0
"""Milliseconds of a window of the warm-up, which has at least one run."""

Measure = Callable[[], float]
"""Runs a subject once and returns the seconds."""

Key = TypeVar("Key")
Turn = TypeVar("Turn")


class Timed(NamedTuple):
    """One run: milliseconds of wall time, and of GPU time between two events."""

    wall_ms: float
    gpu_ms: float | None = None


class Warmup(NamedTuple):
    """Number of runs, and whether they became stable."""

    runs: int
    stable: bool


@dataclass(frozen=True)
class Ratio:
    """A ratio of times that was taken once per round.

    Attributes:
        median: median ratio of the rounds.
        low, high: 95 % confidence interval of the median for any distribution (order statistics
            of the binomial); with fewer than nine rounds this is the range.
        rounds: number of rounds.
    """

    median: float
    low: float
    high: float
    rounds: int = MIN_ROUNDS

    @property
    def verdict(self) -> str | None:
        """The verdict "slower" or "faster"; None within the noise or with too few rounds."""
        if self.rounds < MIN_ROUNDS or self.low <= 1 <= self.high:
            return None
        return "slower" if self.low > 1 else "faster"

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def stopwatch(run: Callable[[], object], clock: Measure = time.perf_counter) -> Measure:
    """A measure of `run` by wall time; the bracket contains only the call."""

    def measure() -> float:
        # Only two clock reads: an allocation or a log line here would be timed too.
        start = clock()
        run()
        return clock() - start

    return measure


def warm_up(run: Callable[[], Timed], longest_s: float) -> Warmup:
    """Run until two consecutive windows agree or the time is up; runs at least two windows."""
    runs, spent_ms, before = 0, 0.0, 0.0
    while True:
        # One run of a small network is shorter than a time slice, so a window has several.
        window = [one.wall_ms for one in turn(run, WINDOW_MS / 1e3)]
        runs, spent_ms, now = runs + len(window), spent_ms + sum(window), median(window)
        if before and abs(now - before) <= STABLE * before:
            return Warmup(runs, True)
        if before and spent_ms > longest_s * 1e3:
            return Warmup(runs, False)
        before = now


def turn(run: Callable[[], Timed], least_s: float) -> list[Timed]:
    """Run repeatedly for at least `least_s` seconds, and at least once."""
    runs, spent_ms = [run()], 0.0
    # A sum over all runs each time would soon take longer than the runs of a small network.
    while (spent_ms := spent_ms + runs[-1].wall_ms) < least_s * 1e3:
        runs.append(run())
    return runs


def interleaved(
    subjects: Mapping[Key, Callable[[], Turn]],
    *,
    rounds: int,
    longest_s: float,
    settle: Callable[[], object] = lambda: None,
) -> dict[Key, list[Turn]]:
    """Give all subjects their turns.

    Args:
        subjects: what to time, by name.
        rounds: turns per subject.
        longest_s: seconds after which a subject has no further turns.
        settle: called after every turn, to let the machine rest.

    Returns:
        The turns by name, in the order of the rounds.

    Raises:
        UsageError: there is nothing to time.
    """
    if not subjects:
        raise UsageError("there is nothing to time")
    turns: dict[Key, list[Turn]] = {name: [] for name in subjects}
    spent = dict.fromkeys(subjects, 0.0)
    for number in range(rounds):
        # Over two rounds a steady drift of the machine falls on all subjects alike.
        for name in reversed(turns) if number % 2 else turns:
            if spent[name] < longest_s:
                start = time.perf_counter()
                turns[name].append(subjects[name]())
                spent[name] += time.perf_counter() - start
                settle()
    return turns


def ratio(times: Sequence[float], to: Sequence[float]) -> Ratio:
    """The ratio of `times` over `to`, round by round, over their common rounds.

    Raises:
        UsageError: they have no common round.
    """
    # Not strict: a slow subject stops early, and only common rounds saw the same machine.
    ratios = [own / other for own, other in zip(times, to, strict=False)]
    if not ratios:
        raise UsageError(f"{len(times)} and {len(to)} rounds have no ratio")
    return Ratio(median(ratios), *median_interval(ratios), len(ratios))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The confidence interval of the median, without assumptions about the distribution.

    Leave out the k smallest and k largest of n values. The rest encloses the median unless at most
    k values fall on one side, with the probability 2 P(Binomial(n, 1/2) <= k). With fewer than six
    values even the whole range, k = 0, falls short of 95 %.
    """
    ordered, count = sorted(values), len(values)
    # Both tails of the binomial; `outside` is the chance that the interval misses the median.
    k, outside = 0, 2 / 2**count
    while (outside := outside + 2 * comb(count, k + 1) / 2**count) <= 1 - confidence:
        k += 1
    return ordered[k], ordered[-1 - k]
