from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from benchmarks.fakes import FakeClock

from maxim_deploy.benchmarks.load import arrivals, closed_loop, open_loop, under_load
from maxim_deploy.errors import UsageError


def test_a_closed_loop_calls_again_when_the_last_call_is_done() -> None:
    clock = FakeClock()
    latencies, took = closed_loop(clock.takes(1.0, 3.0, 1.0), 1, seconds=4.5, clock=clock)
    assert latencies == [1.0, 3.0, 1.0]
    assert took == 5.0  # the last call is waited for


def test_an_open_loop_counts_from_the_arrival() -> None:
    clock = FakeClock()
    # The second takes 5 s, so that those due at 2 and 3 begin at 6 and 7.
    call = clock.takes(1.0, 5.0, 1.0)
    latencies, took = open_loop(call, [0, 1, 2, 3, 20], 1, clock=clock, sleep=clock.sleep)
    assert latencies == [1.0, 5.0, 5.0, 5.0, 1.0]
    assert took == 21.0


def test_arrivals_are_random_with_the_given_mean_and_always_the_same() -> None:
    times = arrivals(rate=50, seconds=100)
    assert times == arrivals(rate=50, seconds=100) == sorted(times)
    assert times[0] > 0 and times[-1] < 100
    assert len(times) == pytest.approx(5000, rel=0.05)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.1)  # exponential
    assert len(arrivals(rate=0.001, seconds=1)) == 1


def test_as_many_call_at_once_as_there_are_callers() -> None:
    together = threading.Barrier(3)  # a call returns when three are under way
    latencies, _ = open_loop(lambda: together.wait(10), [0.0] * 6, callers=3)
    assert len(latencies) == 6
    met, own = threading.Barrier(4), threading.local()

    def call() -> None:
        if not hasattr(own, "met"):
            own.met = met.wait(10)  # each caller's first

    latencies, _ = closed_loop(call, callers=4, seconds=0.2)
    assert len(latencies) >= 4


def test_an_entry_of_a_record() -> None:
    entry = under_load(lambda: None, "open", callers=2, seconds=0.05, rate=1000)
    assert (entry["mode"], entry["callers"], entry["offered_per_s"]) == ("open", 2, 1000)
    assert entry["latency"]["count"] == len(arrivals(1000, 0.05))
    assert entry["images_per_s"] > 0
    closed = under_load(lambda: None, "closed", callers=1, seconds=0.01)
    assert closed["offered_per_s"] is None


def test_a_call_that_fails_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        under_load(lambda: 1 // 0, "closed", callers=2, seconds=1)


@pytest.mark.parametrize(("mode", "rate"), [("open", None), ("ajar", 1.0)])
def test_a_wrong_mode(mode: str, rate: float | None) -> None:
    with pytest.raises(UsageError, match="expected 'closed', or 'open' with a rate"):
        under_load(lambda: None, mode, 1, 1, rate)
