"""Several threads, and what must hold for memory while they run, run out of it, or leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runtime.fakes import Doubling, image_of, restorer_of

from maxim_deploy import BackendError, MaximDeployError, UsageError
from maxim_deploy.errors import OutOfMemoryError
from maxim_deploy.machine import onnxruntime
from maxim_deploy.machine.onnxruntime import Arena, arena_of_this_process
from maxim_deploy.runtime import selection
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu
from maxim_deploy.runtime.registry import BackendSpec
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.selection import open_backend
from maxim_deploy.spec.run_memory import RunMemory


class Blocked(Doubling):
    """Runs until it is let go; notes whether it was asked for memory meanwhile."""

    device, uses_host_memory = "cpu", True

    def __init__(self) -> None:
        super().__init__()
        self.let_go, self.running, self.asked_meanwhile = (
            threading.Event(),
            threading.Event(),
            False,
        )

    def run(self, image: np.ndarray) -> np.ndarray:
        self.running.set()
        assert self.let_go.wait(20)
        self.running.clear()
        return super().run(image)

    def held_bytes(self) -> int:
        self.asked_meanwhile |= self.running.is_set()
        return 0


def test_memory_is_planned_while_nobody_else_runs() -> None:
    """What a run takes counted twice: as resident, and as held for the next one."""
    backend = Blocked()
    restorer = restorer_of(backend, limit=10**12)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(restorer, image_of(64, 64))]
        assert backend.running.wait(20)
        calls.append(pool.submit(restorer, image_of(64, 64)))
        time.sleep(0.1)
        backend.let_go.set()
        assert all(call.result().shape == (64, 64, 3) for call in calls)
    assert not backend.asked_meanwhile


def test_nothing_is_submitted_once_it_is_closing() -> None:
    backend = Blocked()
    restorer = restorer_of(backend)
    accepted = restorer.submit(image_of(64, 64))
    assert backend.running.wait(20)
    closing = threading.Thread(target=restorer.close)
    closing.start()
    while not restorer._is_closing:
        time.sleep(0.001)
    with pytest.raises(BackendError, match="this Restorer is closed"):
        restorer.submit(image_of(64, 64))
    backend.let_go.set()
    closing.join(20)
    assert accepted.result().shape == (64, 64, 3) and backend.closed


def test_closing_in_a_callback_of_its_own_says_so_and_changes_nothing() -> None:
    """It would wait for its own thread."""
    backend, errors = Blocked(), Queue[Exception]()

    def close(_: object) -> None:
        try:
            restorer.close()
        except Exception as error:
            errors.put(error)

    restorer = restorer_of(backend)
    future = restorer.submit(image_of(64, 64))
    assert backend.running.wait(20)
    future.add_done_callback(close)
    backend.let_go.set()
    assert isinstance(errors.get(timeout=20), UsageError)
    assert restorer.submit(image_of(64, 64)).result(20).shape == (64, 64, 3)
    restorer.close()
    assert backend.closed


def test_out_of_memory_is_an_error_of_the_backend_and_a_memory_error() -> None:
    assert issubclass(OutOfMemoryError, BackendError) and issubclass(OutOfMemoryError, MemoryError)
    with pytest.raises(MaximDeployError, match="no room"):
        restorer_of(Doubling(room=0), tile=64)(image_of(64, 64))


def test_auto_goes_on_where_an_engine_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(_: object) -> Any:
        raise OutOfMemoryError("no room for the weights")

    backend = Doubling()
    rows = (BackendSpec("tensorrt", too_large), BackendSpec("onnxruntime", lambda _: backend))
    monkeypatch.setattr(selection, "automatic_backends", lambda: rows)
    found = open_backend(Request(None), "auto")  # type: ignore[arg-type]
    assert found == (backend, {"tensorrt": "no room for the weights"})


# ------------------------------------------------------------------ the arena


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = arena_of_this_process()
    arena.forget()  # what other tests of this process have left
    yield arena
    arena.forget()


def test_after_running_out_of_memory_nothing_is_held(
    arena: Arena, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OnnxRuntimeCpu(demo_bundle / "fp32.tensor.onnx", memory=RunMemory([(0, 0)], 400))
    image = np.zeros((1, 3, 64, 64), np.float32)
    backend.run(image)
    assert backend.held_bytes() == 400 * 64 * 64

    def fails(*_: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1")

    monkeypatch.setattr(backend, "_session", SimpleNamespace(run=fails))
    with pytest.raises(OutOfMemoryError):
        backend.run(np.zeros((1, 3, 128, 128), np.float32))
    assert backend.held_bytes() == 0


def test_the_garbage_collector_may_end_a_user_anywhere(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a cycle, dropped without `close`, once waited for the lock of its own thread."""

    class User:
        pass

    user = User()
    leave = arena.keep_for(user)
    release = arena._release

    def collecting() -> None:
        leave()
        release()

    monkeypatch.setattr(arena, "_release", collecting)
    thread = threading.Thread(target=arena.make_room, args=(10**12,), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_two_first_sessions_share_one_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Slow:
        def __init__(self, _: object) -> None:
            made.append(self)
            time.sleep(0.05)

    monkeypatch.setattr(onnxruntime, "Arena", Slow)
    onnxruntime._made.cache_clear()
    try:
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(lambda _: arena_of_this_process(), range(8)))
    finally:
        onnxruntime._made.cache_clear()
    assert [*found] == made
