"""Lanes: how many are chosen and why, which threads runs have, and what memory is planned."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from runtime.fakes import Doubling, image_of

import maxim_deploy
from maxim_deploy import BackendError, UsageError
from maxim_deploy.machine.cache import CACHE_VARIABLE
from maxim_deploy.machine.memory import forget_peak, peak_resident_bytes, resident_bytes
from maxim_deploy.runtime import lanes, onnxruntime_backend
from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.lanes import LaneChoice
from maxim_deploy.runtime.planning import Planner
from maxim_deploy.runtime.restorer import Restorer
from maxim_deploy.runtime.speeds import Speed, Speeds
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.spec.descriptor import Descriptor


class Laned(Doubling):
    """Four threads; a run takes what `took` says for its number of lanes, by a false clock."""

    device, uses_host_memory, takes_turns, max_lanes = "cpu", True, True, 4

    def __init__(self, took: dict[int, float], available: int = 10**12) -> None:
        super().__init__()
        self.took, self.clock, self.available = took, 0.0, available
        self.most = self.running = self.runs = 0
        self._lock = threading.Lock()

    def use_lanes(self, count: int) -> None:
        self.lanes = count

    def run(self, image: np.ndarray, turn: Turn | None = None) -> np.ndarray:
        assert turn is not None and turn.is_alone == (self.lanes == 1)
        with self._lock:
            self.runs, self.running = self.runs + 1, self.running + 1
            self.most = max(self.most, self.running)
            self.clock += self.took[self.lanes]
        result = super().run(image)
        with self._lock:
            self.running -= 1
        return result

    def free_bytes(self) -> int | None:
        return self.available


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether others use the processors; the last one holds."""
    seen = [False]
    monkeypatch.setattr(lanes.LoadWatch, "is_shared", lambda _: seen[-1])
    return seen


def restorer_of(backend: Laned, asked: lanes.LaneOption = "auto") -> Restorer:
    info = RestorerInfo(Descriptor("x"), None, "fp32", "tensor", "laned", "cpu", "none 1")
    choice = LaneChoice(backend, asked, Speeds({"of": "laned"}))
    return Restorer(backend, info, Planner(backend), lanes=choice)


def measured_with(backend: Laned, monkeypatch: pytest.MonkeyPatch) -> Restorer:
    monkeypatch.setattr(lanes.time, "perf_counter", lambda: backend.clock)
    return restorer_of(backend)


# ------------------------------------------------------------------ the choice


@pytest.mark.parametrize(
    ("took", "best"),
    [
        ({1: 1.0, 2: 0.8, 4: 0.7}, 4),
        ({1: 1.0, 2: 0.8, 4: 0.9}, 2),
        ({1: 1.0, 2: 1.2, 4: 1.4}, 1),
        ({1: 1.0, 2: 0.97, 4: 0.96}, 1),  # not worth the memory
    ],
)
def test_the_fastest_number_is_taken_if_it_is_worth_it(took, best, monkeypatch) -> None:
    restorer = measured_with(Laned(took), monkeypatch)
    assert restorer.info.lanes == 1
    assert restorer.choose_lanes(64, 64) == restorer.info.lanes == best
    gain = f"{1 / took[best]:.2f} times as many per second as one at a time, as measured at 64x64"
    assert any(gain in note for note in restorer.info.notes) == (best > 1)


def test_it_is_measured_once_and_kept(monkeypatch) -> None:
    first = Laned({1: 1.0, 2: 0.8, 4: 0.9})
    restorer = measured_with(first, monkeypatch)
    restorer.choose_lanes(256, 256)
    measured = first.runs
    assert measured > 0 and restorer.choose_lanes(2000, 3000) == 2 and first.runs == measured
    second = Laned({})
    again = restorer_of(second)
    assert again.info.lanes == 2 and again.choose_lanes(256, 300) == 2 and second.runs == 0


def test_other_load_and_other_work_are_measured_apart(others, monkeypatch) -> None:
    backend = Laned({1: 0.1, 2: 0.08, 4: 0.09})
    restorer = measured_with(backend, monkeypatch)
    assert restorer.choose_lanes(256, 256) == 2
    others.append(True)
    backend.took = {1: 0.1, 2: 0.08, 4: 0.05}
    assert restorer.choose_lanes(256, 256) == 4
    assert any("beside other busy processes" in note for note in restorer.info.notes)
    others.append(False)
    assert restorer.choose_lanes(256, 256) == 2
    runs = backend.runs
    restorer.choose_lanes(64, 64)  # a sixteenth of the pixels
    assert backend.runs > runs


def test_a_slow_network_is_measured_on_less(monkeypatch) -> None:
    backend = Laned({1: 1.0, 2: 0.8, 4: 0.9})
    measured_with(backend, monkeypatch).choose_lanes(1000, 1000)
    assert backend.shapes[0] == (1, 3, 256, 256) and backend.shapes[1] == (1, 3, 128, 128)


def test_no_more_lanes_than_the_memory_holds(monkeypatch) -> None:
    backend = Laned({1: 1.0, 2: 0.8, 4: 0.1}, available=3 * (115 * 256**2 + 500_000))
    restorer = measured_with(backend, monkeypatch)
    assert restorer.choose_lanes(256, 256) == 2 and backend.most <= 2


def test_one_thread_has_one_lane_and_measures_nothing() -> None:
    backend = Laned({})
    backend.max_lanes = 1
    assert restorer_of(backend).choose_lanes(64, 64) == 1 and backend.runs == 0


def test_a_number_that_is_asked_for_is_not_measured() -> None:
    backend = Laned({2: 0.1})
    restorer = restorer_of(backend, 2)
    assert restorer.info.lanes == restorer.choose_lanes(64, 64) == 2 and backend.runs == 0


def test_after_a_failure_lanes_are_as_before() -> None:
    backend = Laned({1: 1.0, 2: 0.8, 4: 0.9})
    backend.room = 1
    restorer = restorer_of(backend)
    with pytest.raises(BackendError, match="no room"):
        restorer.choose_lanes(64, 64)
    backend.room = 10**9
    assert backend.lanes == 1 and restorer(image_of(64, 64)).shape == (64, 64, 3)


def test_a_plan_counts_all_runs_at_a_time() -> None:
    backend = Laned({2: 0.1})
    restorer = restorer_of(backend, 2)
    one = restorer.plan(64, 64)
    assert (one.lanes, one.lanes_bytes) == (2, 2 * one.bytes)
    backend.available = 2 * one.bytes - 1
    assert restorer.plan(64, 64).lanes == 1
    assert restorer.has_room(0, 64, 64) and not restorer.has_room(0, 64, 64, runs=2)


# ------------------------------------------------------------------ load


@pytest.mark.parametrize("wrong", [0, -1, "2", "some", 1.5, True])
def test_lanes_that_cannot_be(demo_bundle: Path, wrong) -> None:
    with pytest.raises(UsageError, match="lanes must be 'auto' or a number from 1 on, not"):
        maxim_deploy.load(demo_bundle, lanes=wrong)


def test_a_backend_without_a_choice_says_so() -> None:
    with pytest.raises(UsageError, match="doubling has 1 lanes, not 2; leave lanes at 'auto'"):
        LaneChoice(Doubling(), 2, Speeds({}))


def test_results_do_not_depend_on_lanes(demo_bundle: Path) -> None:
    images = [image_of(64 + 8 * k, 90) for k in range(6)]
    with maxim_deploy.load(demo_bundle) as restorer:
        alone = [restorer(image) for image in images]
    with maxim_deploy.load(demo_bundle, lanes=2) as restorer:
        futures = [restorer.submit(image) for image in images]
        side_by_side = [future.result() for future in futures]
        assert restorer._work.require_open()._session_beside is not None  # type: ignore[attr-defined]
    for one, other in zip(alone, side_by_side, strict=True):
        assert np.abs(one - other).max() < 5e-6


def test_a_single_call_has_all_threads(demo_bundle: Path) -> None:
    with maxim_deploy.load(demo_bundle, lanes=2) as restorer:
        restorer(image_of(64, 64))
        assert restorer._work.require_open()._session_beside is None  # type: ignore[attr-defined]


def test_threads_are_shared_out(demo_bundle: Path, monkeypatch) -> None:
    """Each caller's thread works; the session counts one of them as its own."""
    asked = []
    real = onnxruntime_backend.cpu_session

    def session(graph: Path, threads: int | None, *, spinning: bool, **options: bool) -> object:
        asked.append((threads, spinning))
        return real(graph, 1, spinning=spinning, **options)

    monkeypatch.setattr(onnxruntime_backend, "cpu_session", session)
    backend = onnxruntime_backend.OnnxRuntimeCpu(
        demo_bundle / "fp32.tensor.onnx", threads=8, spinning=False
    )
    image, beside = np.zeros((1, 3, 64, 64), np.float32), Turn(is_alone=False)
    for number in (1, 2, 1, 2, 8, 12):
        backend.use_lanes(number)
        backend.run(image, beside if number > 1 else None)
    backend.close()
    assert asked == [(8, False), (7, False), (1, False), (1, False)]


def test_spinning_is_as_asked_for_or_seen(demo_bundle: Path, monkeypatch) -> None:
    graph = demo_bundle / "fp32.tensor.onnx"
    for is_shared, asked, note in (
        (False, None, None),
        (True, None, "other processes use the processors"),
        (True, True, None),
        (False, False, "as requested"),
    ):
        monkeypatch.setattr(lanes.LoadWatch, "is_shared", lambda _, seen=is_shared: seen)
        backend = onnxruntime_backend.OnnxRuntimeCpu(graph, spinning=asked)
        options = backend._session.get_session_options()
        key = "session.intra_op.allow_spinning"
        assert options.get_session_config_entry(key) == str(int(note is None))
        assert (note is None) == (not any("asleep" in one for one in backend.notes))
        assert note is None or any(one.endswith(note) for one in backend.notes)
        backend.close()


def test_runs_side_by_side_take_what_was_planned(demo_bundle: Path) -> None:
    size = (384, 512)
    with maxim_deploy.load(demo_bundle, lanes=2, threads=2) as restorer:
        backend, image = restorer._work.require_open(), image_of(*size)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(restorer, [image_of(64, 64)] * 4))  # opens the session for two
            restorer.trim()
            planned = restorer.plan(*size).lanes_bytes
            forget_peak()
            before = resident_bytes()
            list(pool.map(restorer, [image] * 5))
        taken = peak_resident_bytes() - before
        assert backend._session_beside is not None  # type: ignore[attr-defined]
        # What waits beside two runs: the pictures of four calls, in and out, float32.
        waiting = 4 * 2 * 12 * size[0] * size[1]
        assert taken <= planned + waiting
        assert backend.held_bytes() <= planned


def test_nobody_runs_while_lanes_are_measured(monkeypatch) -> None:
    backend = Laned({1: 0.0, 2: 0.0, 4: 0.0})
    restorer, entered, go_on = restorer_of(backend), threading.Event(), threading.Event()

    def choose(*_: object) -> int:
        entered.set()
        assert go_on.wait(20)
        return 2

    monkeypatch.setattr(LaneChoice, "measure", choose)
    with ThreadPoolExecutor(2) as pool:
        choosing = pool.submit(restorer.choose_lanes, 64, 64)
        assert entered.wait(20)
        call = pool.submit(restorer, image_of(64, 64))
        time.sleep(0.05)
        assert not call.done() and backend.runs == 0
        go_on.set()
        # The first of them is alone or beside nobody, whatever the number is now.
        monkeypatch.setattr(backend, "run", lambda image, turn: image * 2)
        assert choosing.result(20) == 2 and call.result(20).shape == (64, 64, 3)


def test_the_best_of_speeds() -> None:
    def speed(number: int, seconds: float) -> Speed:
        return Speed(64, 64, number, 4, False, seconds)

    assert lanes.best_of([speed(2, 0.9), speed(1, 1.0), speed(4, 0.95)]) == 2
