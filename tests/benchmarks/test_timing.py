from __future__ import annotations

from collections.abc import Callable

import pytest

from maxim_deploy.benchmarks.timing import Ratio, interleaved, ratio, stopwatch
from maxim_deploy.errors import UsageError


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def takes(self, *seconds: float) -> Callable[[], None]:
        """A subject whose runs take so long, one after the other; the last repeats."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_a_stopwatch_measures_the_call_only() -> None:
    clock = FakeClock()
    measure = stopwatch(clock.takes(2.0, 3.0), clock)
    assert measure() == 2.0
    clock.now += 50
    assert measure() == 3.0


def test_subjects_take_turns_and_every_second_round_is_reversed() -> None:
    order: list[str] = []

    def subject(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or 1.0  # type: ignore[func-returns-value]

    settled: list[int] = []
    seconds = interleaved(
        {"a": subject("a"), "b": subject("b")},
        rounds=5,
        warmup=2,
        settle=lambda: settled.append(len(order)),
    )
    assert "".join(order) == "aabb" + "ab" + "ba" + "ab" + "ba" + "ab"
    assert settled == list(range(1, 15))  # after each run, warm-up included
    assert seconds == {"a": [1.0] * 5, "b": [1.0] * 5}


def test_warm_up_does_not_count_and_rounds_keep_their_order() -> None:
    clock = FakeClock()
    slow_start = stopwatch(clock.takes(9, 1, 2, 3, 4, 5), clock)
    assert interleaved({"a": slow_start}, rounds=5, warmup=1) == {"a": [1, 2, 3, 4, 5]}


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is half as fast in the last two rounds; the ratio does not notice.
    assert ratio([2, 2, 2, 4, 4], [1, 1, 1, 2, 2]) == Ratio(2, 2, 2)
    # 1/2, 3/2, 2/2, 8/2, 4/2
    assert ratio([1, 3, 2, 8, 4], [2, 2, 2, 2, 2]) == Ratio(median=1.5, low=0.5, high=4)
    # An even number: the mean of the middle two.
    assert ratio([1, 2, 3, 8], [1, 1, 1, 1]).median == 2.5


def test_a_ratio_reads_with_its_range() -> None:
    assert str(Ratio(1.617, 1.5, 1.7)) == "1.62 (1.50 to 1.70)"


def test_too_little_to_time() -> None:
    with pytest.raises(UsageError, match="rounds must be at least 5, not 4"):
        interleaved({"a": lambda: 1.0}, rounds=4, warmup=0)
    with pytest.raises(UsageError, match="nothing to time"):
        interleaved({}, rounds=5, warmup=0)
    with pytest.raises(UsageError, match="2 and 1 rounds"):
        ratio([1, 2], [1])
    with pytest.raises(UsageError, match="0 and 0 rounds"):
        ratio([], [])
