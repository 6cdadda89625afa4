"""Ctrl-C in a call, and runs of ONNX Runtime that end early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runtime.fakes import Stoppable, image_of, restorer_of

import maxim_deploy
from maxim_deploy import CancelledError, DeadlineError
from maxim_deploy.runtime.interrupts import Interruptible
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu
from maxim_deploy.runtime.turns import Stop, Turn

IMAGE = image_of(64, 64)

needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="os.kill ends the process on Windows"
)


def interrupted(call: Callable[[], object], when: Callable[[], object], times: int = 1) -> None:
    """Press Ctrl-C in a call of the main thread."""
    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press() -> None:
        when()
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    try:
        with pytest.raises(KeyboardInterrupt):
            thread.start()
            call()
            thread.join(20)
    finally:
        thread.join(20)
        signal.signal(signal.SIGINT, before)


@needs_signals
@pytest.mark.parametrize("how", ["call", "batch", "stack", "result", "warmup"])
def test_ctrl_c_ends_it_and_the_restorer_works(how: str) -> None:
    backend = Stoppable()
    restorer = restorer_of(backend)
    calls = {
        "call": lambda: restorer(IMAGE),
        "batch": lambda: restorer.batch([IMAGE, image_of(64, 128)]),
        "stack": lambda: restorer(IMAGE.transpose(2, 0, 1)[None]),
        "result": lambda: restorer.submit(IMAGE).result(),
        "warmup": lambda: restorer.warmup([(64, 64)]),
    }
    interrupted(calls[how], backend.has_begun)
    backend.let_go.set()
    assert np.array_equal(restorer(IMAGE), 2 * IMAGE)
    restorer.close()  # a picture that was interrupted in `submit` ends here
    assert not restorer._admission._ends and not restorer._work._turns._running


@needs_signals
def test_a_call_that_waits_for_its_turn_is_interrupted() -> None:
    backend = Stoppable()
    restorer = restorer_of(backend)
    first = restorer.submit(IMAGE)
    backend.has_begun()

    def is_waiting() -> None:
        while not restorer._work._turns._waiting:
            threading.Event().wait(0.001)

    interrupted(lambda: restorer(IMAGE), is_waiting)
    assert not restorer._work._turns._waiting
    backend.let_go.set()
    assert first.result(20) is not None
    restorer.close()


@needs_signals
@pytest.mark.parametrize("times", [2, 200])
def test_pressing_it_again_still_waits_for_the_run(times: int) -> None:
    """The run still reads the caller's picture, and has the turn that the next call waits for."""
    begun, ended = threading.Event(), list[bool]()

    def work() -> str:
        begun.set()
        while stop.reason is None:
            threading.Event().wait(0.001)
        threading.Event().wait(0.05)
        ended.append(True)
        raise stop.reason

    main, stop = Interruptible(), Stop()
    interrupted(lambda: main.do(work, stop), begun.wait, times)
    assert ended == [True]
    main.close()


@needs_signals
def test_ctrl_c_ends_the_picture_of_a_file(tmp_path: Path) -> None:
    """As a second Ctrl-C of `maxim-run` does; the first is caught, and finishes the picture."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    backend = Stoppable()
    restorer = restorer_of(backend)
    files = maxim_deploy.restore_files(restorer, [tmp_path / "a.png"], tmp_path / "restored")
    interrupted(lambda: list(files), backend.has_begun)
    assert [*(tmp_path / "restored").iterdir()] == []
    backend.let_go.set()
    assert restorer(IMAGE) is not None
    restorer.close()


def test_a_call_raises_its_own_timeout_and_sees_its_context() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    main = Interruptible()
    with pytest.raises(TimeoutError, match="its own"):
        main.do(fail, Stop())
    with np.errstate(divide="raise"):
        assert main.do(lambda: np.geterr()["divide"], Stop()) == "raise"
    thread = main.do(threading.current_thread, Stop())
    assert thread is not threading.current_thread()
    main.close()
    with ThreadPoolExecutor(1) as pool:
        own = pool.submit(threading.current_thread).result()
        assert pool.submit(main.do, threading.current_thread, Stop()).result() is own


def test_a_call_works_as_the_process_ends(demo_bundle: Path) -> None:
    """In a function of `atexit` no thread starts any more."""
    script = (
        "import atexit, sys, numpy, maxim_deploy\n"
        "restorer = maxim_deploy.load(sys.argv[1], backend='onnxruntime', threads=1)\n"
        "image = numpy.zeros((5, 7, 3), numpy.uint8)\n"
        "atexit.register(lambda: print(restorer(image).shape))\n"
        "future = restorer.submit(image)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(demo_bundle)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.stdout.strip() == "(5, 7, 3)", found.stderr


# ------------------------------------------------------------------ ONNX Runtime


@pytest.fixture(scope="module")
def network(demo_bundle: Path):
    with maxim_deploy.load(demo_bundle, backend="onnxruntime", tile="off") as restorer:
        yield restorer


class Running:
    """Tells when ONNX Runtime has been in a run for a moment."""

    def __init__(self, restorer, monkeypatch: pytest.MonkeyPatch) -> None:
        backend: Any = restorer._work.require_open()
        self.begun, self.runs = threading.Event(), 0
        session = backend._session

        class Session:
            def run(_, names, feeds, options):  # noqa: N805
                threading.Timer(0.05, self.begun.set).start()
                return session.run(names, feeds, options)

        monkeypatch.setattr(backend, "_session", Session())

    def wait(self) -> None:
        assert self.begun.wait(20)
        self.begun.clear()


LARGE = np.zeros((1024, 1024, 3), np.uint8)
"""Takes seconds."""


def test_a_whole_picture_is_cancelled_in_the_middle(network, monkeypatch) -> None:
    running = Running(network, monkeypatch)
    future = network.submit(LARGE)
    running.wait()
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(20)
    running.begun.clear()
    assert np.array_equal(network(LARGE[:40, :50]), network(LARGE[:40, :50]))


def test_a_whole_picture_misses_its_deadline(network) -> None:
    with pytest.raises(DeadlineError):
        network.submit(LARGE, timeout=0.1).result(20)


@needs_signals
def test_ctrl_c_ends_a_whole_picture(network, monkeypatch) -> None:
    running = Running(network, monkeypatch)
    interrupted(lambda: network(LARGE), running.wait)
    running.begun.clear()
    assert network(LARGE[:40, :50]).shape == (40, 50, 3)


def test_a_small_picture_does_not_wait_for_a_large_one(network, monkeypatch) -> None:
    running = Running(network, monkeypatch)
    alone = network(LARGE[:40, :50])
    running.wait()
    large = network.submit(LARGE)
    running.wait()
    assert np.array_equal(network(LARGE[:40, :50]), alone)
    assert not large.done()
    large.cancel()


def test_a_backend_raises_the_reason_and_runs_again(demo_bundle: Path) -> None:
    backend = OnnxRuntimeCpu(demo_bundle / "fp32.tensor.onnx")
    image, turn = np.zeros((1, 3, 64, 64), np.float32), Turn()
    expected = backend.run(image)
    assert np.array_equal(backend.run(image, turn), expected)
    reason = CancelledError("enough")
    turn.stop.set(reason)
    with pytest.raises(CancelledError) as caught:
        backend.run(image, turn)
    assert caught.value is reason
    assert np.array_equal(backend.run(image, Turn()), expected)
    backend.close()
