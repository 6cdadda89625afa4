from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from benchmarks.fakes import FakePsutil

from maxim_deploy.benchmarks import noise
from maxim_deploy.benchmarks.noise import Watch, busy, spread_of, warnings_of

QUIET = {"spread": 0.01, "foreign_cpu": 0.01, "idle_cpu_s": 0.04}
CALM = {"pause_s": 0.25, "busy_before": 0.02, "throttled": [], "unstable": [], "rounds": 7}
STEADY = {"low": 275, "median": 280, "high": 290}


def test_a_quiet_machine_has_no_warning() -> None:
    assert warnings_of(QUIET, **CALM) == []
    assert warnings_of({**QUIET, "spread": None, "foreign_cpu": None}, **CALM) == []
    assert warnings_of({**QUIET, "handoff_ns": None, "handoff_before_ns": None}, **CALM) == []
    assert warnings_of({**QUIET, "handoff_ns": STEADY, "handoff_before_ns": None}, **CALM) == []
    near = {"handoff_ns": STEADY, "handoff_before_ns": [250, 300]}
    assert warnings_of({**QUIET, **near}, **CALM) == []


@pytest.mark.parametrize(
    ("found", "method", "words"),
    [
        ({"spread": 0.08}, {}, "too noisy: the middle half of the rounds is 8% wide"),
        ({"foreign_cpu": 0.2}, {}, "other programs used 20% of the processors"),
        ({"idle_cpu_s": 0.3}, {}, "busy for 0.30 s of rest"),
        ({}, {"busy_before": 0.5}, "busy before the run (50% of its processors)"),
        ({}, {"throttled": ["power cap"]}, "the GPU was slowed down: power cap"),
        ({}, {"unstable": ["image"]}, "image did not become stable"),
        ({}, {"rounds": 4}, "4 rounds, too few"),
        (
            {"handoff_ns": {"low": 80, "median": 90, "high": 280}},
            {},
            "a cache line took 80 to 280 ns from one to the next",
        ),
        (
            {"handoff_ns": STEADY, "handoff_before_ns": [80, 82]},
            {},
            "several states: a cache line took 280 ns from one processor to the next, and 80 to 82",
        ),
        (
            {"handoff_ns": STEADY, "handoff_before_ns": [80, 282]},  # of neither is known which
            {},
            "and 80 to 282 in earlier comparisons",
        ),
    ],
)
def test_what_is_warned_of(found: dict, method: dict, words: str) -> None:
    (warning,) = warnings_of({**QUIET, **found}, **{**CALM, **method})
    assert words in warning


def test_the_spread_is_the_largest_of_all_brackets() -> None:
    steady, noisy = [[1.0, 9.0, 1.0]] * 5, [[1.0], [2.0], [3.0], [4.0], [5.0]]
    assert spread_of([steady]) == 0  # of the rounds' medians
    assert spread_of([steady, noisy]) == pytest.approx(2 / 3)


def test_what_others_use_is_all_less_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakePsutil()
    machine.own = {7: 50.0}
    monkeypatch.setattr(noise, "require", lambda *_: machine)
    watch = Watch([7, 8], None)  # 8 has ended
    machine.busy, machine.idle, machine.own[7] = 115.0, 905.0, 62.0
    assert watch.foreign_cpu() == pytest.approx((15 - 12) / 20)
    machine.children = 1.0  # has ended, and was a process of 7's
    assert watch.foreign_cpu() == pytest.approx((15 - 13) / 20)
    machine.own[7] = 90.0  # ticks are coarse: never below zero
    assert watch.foreign_cpu() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="as psutil counts there")
@pytest.mark.xdist_group("measuring")
@pytest.mark.usefixtures("every_processor")
def test_a_busy_stranger_is_seen() -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as stranger:
        try:
            assert busy(0.2) > 0.5 / (os.cpu_count() or 1)
            mine, foreign = Watch([stranger.pid], None), Watch([], None)
            time.sleep(0.5)
            assert foreign.foreign_cpu() > mine.foreign_cpu()
        finally:
            stranger.kill()


def test_the_gpu_is_looked_at_in_every_sample() -> None:
    reasons = iter([["power cap"], [], ["temperature (driver)", "power cap"]])
    sensors = SimpleNamespace(read=lambda: {"sm_mhz": 1, "throttled": next(reasons)})
    watch = Watch([], sensors)  # type: ignore[arg-type]
    for _ in range(3):
        watch.sample()
    assert watch.throttled == ["power cap", "temperature (driver)"]
    assert watch.gpu_state is not None and watch.gpu_state["sm_mhz"] == 1
    Watch([], None).sample()


def test_processors_are_looked_at_until_they_do_not_tell() -> None:
    samples = iter([80.0, None, 90.0, None, 280.0])
    watch = Watch([], None, lambda: next(samples))
    assert watch.handoff_ns is None
    for _ in range(5):  # one that was disturbed is left out
        watch.sample_at_rest()
    assert watch.handoff_ns == pytest.approx({"low": 82, "median": 90, "high": 242})
    samples = iter([None])
    watch = Watch([], None, lambda: next(samples))
    for _ in range(2):  # nobody asks again where it is not to be had
        watch.sample_at_rest()
    assert watch.handoff_ns is None
    silent = Watch([], None)
    silent.sample_at_rest()
    assert silent.handoff_ns is None
