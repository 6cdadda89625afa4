"""A `Restorer` after a fork, and what it says of itself."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from runtime.fakes import Doubling, image_of, restorer_of

from maxim_deploy import BackendError, UsageError
from maxim_deploy.machine.onnxruntime import arena_of_this_process
from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

IMAGE = image_of(64, 64)


class OnHost(Doubling):
    device, uses_host_memory = "cpu", True


def holds_in_a_child(check: Callable[[], bool]) -> bool:
    """Whether `check` is true in a forked child, which has ten seconds for it."""
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            os._exit(0 if check() else 1)
        finally:  # nothing of pytest's may run twice
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_submit_works_in_a_child_of_a_parent_that_has_used_it():
    restorer = restorer_of(OnHost())
    expected = restorer.submit(IMAGE).result()
    assert holds_in_a_child(lambda: (restorer.submit(IMAGE).result() == expected).all())
    assert holds_in_a_child(lambda: (restorer(IMAGE) == expected).all())
    assert holds_in_a_child(lambda: restorer.close() is None)
    assert (restorer.submit(IMAGE).result() == expected).all()
    restorer.close()


def test_a_child_does_not_wait_for_what_the_parent_runs():
    running, go_on = threading.Event(), threading.Event()

    class Waiting(OnHost):
        def run(self, image: np.ndarray) -> np.ndarray:
            running.set()
            assert go_on.wait(10)
            return super().run(image)

    restorer = restorer_of(Waiting())
    future = restorer.submit(IMAGE)
    assert running.wait(10)

    def call() -> bool:
        go_on.set()
        return restorer(IMAGE).shape == restorer.submit(IMAGE).result().shape

    assert holds_in_a_child(call)
    go_on.set()
    assert future.result().shape == IMAGE.shape
    restorer.close()


def test_a_child_makes_a_backend_anew_and_the_parent_does_not():
    calls: list[int] = []

    class Counting(OnHost):
        def after_fork(self) -> None:
            calls.append(os.getpid())

    restorer = restorer_of(Counting())
    assert holds_in_a_child(lambda: calls == [os.getpid()])
    assert calls == []
    restorer.close()
    assert holds_in_a_child(lambda: calls == [])


def test_a_gpu_is_not_for_children():
    restorer = restorer_of(Doubling())

    def refused() -> bool:
        with pytest.raises(BackendError, match="CUDA does not survive a fork; load the bundle in"):
            restorer.submit(IMAGE).result()
        restorer.close()
        return True

    assert holds_in_a_child(refused)
    assert restorer(IMAGE).shape == IMAGE.shape


def test_onnxruntime_opens_its_session_again_in_a_child(tmp_path: Path):
    opened: list[int] = []
    graph = tmp_path / "tiny.onnx"
    graph.write_bytes(TINY_GRAPH)

    @contextmanager
    def source() -> Iterator[Path]:
        opened.append(os.getpid())
        yield graph

    backend = OnnxRuntimeCpu(source, 2)
    restorer = restorer_of(backend, tile="off")
    parent, session, image = os.getpid(), backend._session, np.ones((1, 3, 4, 4), np.float32)
    expected = backend.run(image)

    def run() -> bool:
        arena_of_this_process().forget()
        same = (backend.run(image) == expected).all()
        return bool(same) and backend._session is not session and opened == [parent, os.getpid()]

    assert holds_in_a_child(run)
    assert backend._session is session
    assert opened == [parent]
    restorer.close()


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_would_make_another_says_what_to_do(make: Callable[[object], object]):
    with pytest.raises(UsageError, match="send the path of the bundle, and call maxim_deploy.load"):
        make(restorer_of(Doubling()))


def test_a_restorer_and_its_info_read_well():
    restorer = restorer_of(Doubling())
    assert repr(restorer) == "<Restorer: x, fp32, doubling on cuda:0>"
    assert str(restorer.info).splitlines() == [
        "x",
        "fp32 tensor graph on none 1, cuda:0",
        "sizes that run whole: any; sides are padded to multiples of 64",
    ]
    restorer.close()
    assert repr(restorer) == "<Restorer: x, fp32, doubling on cuda:0, closed>"
