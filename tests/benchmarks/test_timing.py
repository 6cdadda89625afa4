from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from math import comb

import numpy as np
import pytest
from benchmarks.fakes import FakeClock

from maxim_deploy.benchmarks.timing import (
    Ratio,
    Timed,
    Warmup,
    interleaved,
    median_interval,
    ratio,
    stopwatch,
    turn,
    warm_up,
)
from maxim_deploy.benchmarks.workload import by_wall
from maxim_deploy.errors import UsageError


def runs_of(*wall_ms: float) -> tuple[Callable[[], Timed], list[float]]:
    """A subject whose runs take so long, the last repeats; and those that were asked for."""
    left, asked = list(wall_ms), []

    def run() -> Timed:
        asked.append(left.pop(0) if len(left) > 1 else left[0])
        return Timed(asked[-1])

    return run, asked


def test_a_stopwatch_measures_the_call_only() -> None:
    clock = FakeClock()
    measure = stopwatch(clock.takes(2.0, 3.0), clock)
    assert measure() == 2.0
    clock.now += 50
    assert measure() == 3.0


def test_a_bracket_is_wall_time_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(time, "perf_counter", clock)
    bracket = by_wall(clock.takes(0.25, 3.0))
    assert bracket() == pytest.approx((250.0, None))
    clock.now += 50
    assert bracket().wall_ms == pytest.approx(3000.0, rel=1e-6)


def test_subjects_take_turns_and_every_second_round_is_reversed() -> None:
    order: list[str] = []

    def subject(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or 1.0  # type: ignore[func-returns-value]

    settled: list[int] = []
    turns = interleaved(
        {"a": subject("a"), "b": subject("b")},
        rounds=5,
        longest_s=100,
        settle=lambda: settled.append(len(order)),
    )
    assert "".join(order) == "ab" + "ba" + "ab" + "ba" + "ab"
    assert settled == list(range(1, 11))  # after each turn
    assert turns == {"a": [1.0] * 5, "b": [1.0] * 5}


def test_a_subject_that_has_taken_long_has_no_further_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(time, "perf_counter", clock)
    slow, fast = clock.takes(4.0), clock.takes(1.0)
    rest = clock.takes(30.0)  # does not count
    turns = interleaved({"slow": slow, "fast": fast}, rounds=5, longest_s=10, settle=rest)
    assert {name: len(had) for name, had in turns.items()} == {"slow": 3, "fast": 5}


def test_a_turn_lasts_at_least_so_long_and_has_at_least_one_run() -> None:
    run, _ = runs_of(30, 40, 50, 60)
    assert [one.wall_ms for one in turn(run, 0.1)] == [30, 40, 50]
    run, _ = runs_of(500)
    assert [one.wall_ms for one in turn(run, 0.1)] == [500]
    assert len(turn(run, 0)) == 1


def test_warm_up_ends_when_two_windows_agree() -> None:
    run, asked = runs_of(900, 300, 200, 195)
    assert warm_up(run, longest_s=60) == Warmup(runs=4, stable=True)
    assert asked == [900, 300, 200, 195]
    run, asked = runs_of(60, 10)  # a window is at least 50 ms
    assert warm_up(run, longest_s=60) == Warmup(runs=11, stable=True)


def test_warm_up_gives_up() -> None:
    run, asked = runs_of(1000, 500, 250, 1000, 500, 250, 1000)
    assert warm_up(run, longest_s=2) == Warmup(runs=4, stable=False)
    assert len(asked) == 4


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is half as fast in the last two rounds; the ratio does not notice.
    assert ratio([2, 2, 2, 4, 4], [1, 1, 1, 2, 2]) == Ratio(2, 2, 2, 5)
    # 1/2, 3/2, 2/2, 8/2, 4/2
    assert ratio([1, 3, 2, 8, 4], [2, 2, 2, 2, 2]) == Ratio(1.5, low=0.5, high=4, rounds=5)
    # An even number: the mean of the middle two.
    assert ratio([1, 2, 3, 8], [1, 1, 1, 1]).median == 2.5
    # A subject that had fewer turns is compared in the rounds that it had.
    assert ratio([2, 2, 2, 2, 2], [1, 1, 1]).rounds == 3


def test_a_ratio_reads_with_its_interval() -> None:
    assert str(Ratio(1.617, 1.5, 1.7)) == "1.62 (1.50 to 1.70)"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Ratio(1.2, 1.1, 1.3), "slower"),
        (Ratio(0.8, 0.7, 0.9), "faster"),
        (Ratio(1.2, 0.99, 1.3), None),
        (Ratio(0.9, 0.7, 1.0), None),
        (Ratio(1.2, 1.1, 1.3, rounds=4), None),
    ],
)
def test_a_verdict_only_outside_the_noise(found: Ratio, verdict: str | None) -> None:
    assert found.verdict == verdict


def test_the_interval_of_a_median_is_that_of_the_binomial() -> None:
    for count in range(1, 40):
        low, high = median_interval([float(value) for value in range(count)])
        k = int(low)
        assert high == count - 1 - k

        def missed(k: int, count: int = count) -> float:
            return 2 * sum(comb(count, j) for j in range(k + 1)) / 2**count

        assert k == 0 or missed(k) <= 0.05
        assert missed(k + 1) > 0.05


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    # Of nine coin throws around the true median, in all ways that they can fall.
    values = np.arange(9)
    inside = 0
    for throw in product((0, 1), repeat=9):
        sample = sorted(np.where(throw, values + 1, -values - 1).tolist())
        low, high = median_interval(sample)
        inside += low <= 0 <= high
    assert inside / 2**9 == 1 - 2 * 10 / 2**9  # at most one on a side: 10 ways of 512, twice


def test_too_little_to_time() -> None:
    with pytest.raises(UsageError, match="nothing to time"):
        interleaved({}, rounds=5, longest_s=1)
    with pytest.raises(UsageError, match="2 and 0 rounds"):
        ratio([1, 2], [])
    with pytest.raises(UsageError, match="0 and 0 rounds"):
        ratio([], [])
