"""What a service asks of a `Restorer`: cancel, deadlines, a bounded queue, and an end at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from machine.children import measure
from runtime.fakes import Doubling, Stoppable, image_of, restorer_of

import maxim_deploy
from maxim_deploy import (
    BackendError,
    CancelledError,
    DeadlineError,
    PixelRangeWarning,
    QueueFullError,
    Restoration,
    Restorer,
    RunProgress,
    UsageError,
)

IMAGE = image_of(64, 64)


@pytest.fixture
def backend() -> Stoppable:
    return Stoppable()


@pytest.fixture
def restorer(backend: Stoppable) -> Iterator[Restorer]:
    restorer = restorer_of(backend)
    yield restorer
    backend.let_go.set()
    restorer.close()
    assert not restorer._admission._ends and not restorer._due


def works(restorer: Restorer, backend: Stoppable) -> None:
    """The restorer is free and restores."""
    backend.let_go.set()
    assert np.array_equal(restorer.submit(IMAGE).result(20), 2 * IMAGE)


# ------------------------------------------------------------------ cancelling


def test_one_that_waits_is_cancelled_at_once(restorer, backend) -> None:
    first = restorer.submit(IMAGE)
    backend.has_begun()
    others = [restorer.submit(IMAGE) for _ in range(5)]
    told: list[Restoration] = []
    for other in others:
        other.add_done_callback(told.append)
    assert all(other.cancel() for other in others[1:])
    assert others[2].done() and others[2].cancelled() and not others[2].running()
    assert others[2].cancel(), "as of any cancelled future"
    with pytest.raises(CancelledError, match="cancelled before it was restored"):
        others[2].result(20)
    backend.let_go.set()
    assert first.result(20) is not None and others[0].result(20) is not None
    assert sorted(map(id, told)) == sorted(map(id, others))
    assert backend.begun.qsize() == 1, "the cancelled ones have not run"


def test_one_that_runs_is_cancelled_and_the_next_begins(restorer, backend) -> None:
    first = restorer.submit(IMAGE)
    backend.has_begun()
    second = restorer.submit(image_of(64, 128))
    assert first.running() and first.cancel()
    backend.has_begun(64, 128)
    with pytest.raises(CancelledError):
        first.result(20)
    with pytest.raises(concurrent.futures.CancelledError):
        first.exception(20)
    assert first.cancelled() and not second.cancelled()
    works(restorer, backend)
    assert second.result(20).shape == (64, 128, 3)


def test_one_that_is_done_cannot_be_cancelled(restorer, backend) -> None:
    backend.let_go.set()
    future = restorer.submit(IMAGE)
    result = future.result(20)
    assert not future.cancel() and not future.cancelled() and future.exception() is None
    assert future.result() is result


def test_futures_know_them_as_their_own(restorer, backend) -> None:
    running = restorer.submit(IMAGE)
    backend.has_begun()
    waiting = restorer.submit(IMAGE)
    assert concurrent.futures.wait([running, waiting], timeout=0).not_done == {running, waiting}
    waiting.cancel()
    running.cancel()
    found = concurrent.futures.as_completed([running, waiting], timeout=20)
    assert {future.cancelled() for future in found} == {True}
    assert concurrent.futures.wait([running, waiting], timeout=0).done == {running, waiting}


def test_a_cancel_counts_even_if_the_run_ends_as_it_is_called(restorer, backend) -> None:
    """`cancel` has returned True, so nobody expects a result."""
    future = restorer.submit(IMAGE, progress=lambda _: future.cancel())  # type: ignore[has-type]
    backend.let_go.set()
    with pytest.raises(CancelledError):
        future.result(20)
    works(restorer, backend)


def test_a_waiting_picture_of_many_runs_is_cancelled(backend) -> None:
    """It is handed to another thread, and waits there."""
    restorer = restorer_of(backend, tile=512)
    first = restorer.submit(image_of(1024, 1024))
    backend.has_begun(512, 512)
    second = restorer.submit(image_of(1024, 1024))
    while restorer._workers is None or restorer._workers._waiting:
        threading.Event().wait(0.001)
    assert second.cancel()
    with pytest.raises(CancelledError):
        second.result(20)
    assert first.cancel()
    works(restorer, backend)
    restorer.close()


# ------------------------------------------------------------------ asyncio


def test_a_cancelled_task_cancels_its_picture(restorer, backend) -> None:
    async def main() -> None:
        task = asyncio.create_task(restore())
        await asyncio.to_thread(backend.has_begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def restore() -> np.ndarray:
        return await asyncio.wrap_future(restorer.submit(IMAGE))

    asyncio.run(main())
    works(restorer, backend)


def test_a_timeout_of_asyncio_cancels_its_picture(restorer, backend) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(restorer.submit(IMAGE)), 0.05)

    asyncio.run(main())
    works(restorer, backend)


def test_a_cancelled_picture_cancels_who_awaits_it(restorer, backend) -> None:
    async def main() -> None:
        future = restorer.submit(IMAGE)
        awaited = asyncio.wrap_future(future)
        await asyncio.to_thread(backend.has_begun)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited

    asyncio.run(main())
    works(restorer, backend)


def test_a_deadline_reaches_who_awaits_it(restorer, backend) -> None:
    async def main() -> None:
        with pytest.raises(DeadlineError):
            await asyncio.wrap_future(restorer.submit(IMAGE, timeout=0.05))

    asyncio.run(main())
    works(restorer, backend)


# ------------------------------------------------------------------ deadlines


def test_a_deadline_ends_a_run(restorer, backend) -> None:
    future = restorer.submit(IMAGE, timeout=0.05)
    with pytest.raises(DeadlineError, match=r"not restored within 0\.05 s") as caught:
        future.result(20)
    assert isinstance(caught.value, TimeoutError) and not future.cancelled()
    assert future.exception() is caught.value and not future.cancel()
    works(restorer, backend)


def test_a_deadline_counts_from_submit_and_ends_the_wait(restorer, backend) -> None:
    first = restorer.submit(IMAGE)
    backend.has_begun()
    others = [restorer.submit(IMAGE, timeout=timeout) for timeout in (60, 0.05, 0.02, 0.04, 1e12)]
    for late in others[1:4]:
        with pytest.raises(DeadlineError):
            late.result(20)
    assert not first.done() and backend.begun.empty()
    backend.let_go.set()
    for future in (first, others[0], others[4]):
        assert future.result(20) is not None


@pytest.mark.parametrize("timeout", [0, -1, -1e9, -float("inf")])
def test_a_deadline_that_has_passed_runs_nothing(restorer, backend, timeout) -> None:
    with pytest.raises(DeadlineError):
        restorer.submit(IMAGE, timeout=timeout).result(20)
    assert backend.begun.empty()


@pytest.mark.parametrize("timeout", [float("nan"), "5", True])
def test_a_timeout_is_a_number(restorer, timeout) -> None:
    with pytest.raises(UsageError, match="timeout must be a number of seconds or None, not"):
        restorer.submit(IMAGE, timeout=timeout)


def test_no_deadline_is_kept_of_what_is_done(restorer, backend) -> None:
    backend.let_go.set()
    for _ in range(100):
        restorer.submit(IMAGE, timeout=3600).result(20)
    assert restorer.submit(IMAGE, timeout=float("inf")).result(20) is not None
    assert len(restorer._deadlines._heap) <= 1 and not restorer._due


def test_the_timeout_of_result_leaves_the_picture_alone(restorer, backend) -> None:
    future = restorer.submit(IMAGE)
    with pytest.raises(TimeoutError) as caught:
        future.result(0.01)
    assert not isinstance(caught.value, DeadlineError)
    backend.let_go.set()
    assert future.result(20) is not None


# ------------------------------------------------------------------ the queue


def test_a_full_queue_says_so(backend) -> None:
    restorer = restorer_of(backend, queue=2)
    accepted = [restorer.submit(IMAGE) for _ in range(3)]
    full = r"busy \| 1 run and 2 wait \| it was loaded with queue=2 \| try again later"
    for call in (restorer.submit, restorer):
        with pytest.raises(QueueFullError, match=full):
            call(IMAGE)
    with pytest.raises(QueueFullError):
        restorer.batch([IMAGE])
    assert accepted[2].cancel(), "which makes room"
    concurrent.futures.wait(accepted[2:], timeout=20)
    accepted.append(restorer.submit(IMAGE))
    backend.let_go.set()
    assert all(accepted[k].result(20) is not None for k in (0, 1, 3))
    restorer.close()


def test_calls_of_threads_wait_in_the_queue_too(backend) -> None:
    restorer = restorer_of(backend, queue=0)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(restorer, IMAGE)
        backend.has_begun()
        with pytest.raises(QueueFullError, match="1 run and 0 wait"):
            restorer.submit(IMAGE)
        backend.let_go.set()
        assert call.result(20) is not None
    restorer.close()


def test_who_has_a_result_finds_room(backend) -> None:
    """Room is made before the result can be seen."""
    backend.let_go.set()
    restorer = restorer_of(backend, queue=0)
    for _ in range(200):
        restorer.submit(IMAGE).result(20)
        restorer(IMAGE)
    restorer.close()


def test_a_queue_is_at_least_zero(demo_bundle) -> None:
    with pytest.raises(UsageError, match="queue must be at least 0, or None for no limit, not -1"):
        maxim_deploy.load(demo_bundle, queue=-1)


# ------------------------------------------------------------------ the end


def test_close_can_cancel_what_waits_and_runs(restorer, backend) -> None:
    with ThreadPoolExecutor(1) as pool:
        called = pool.submit(restorer, IMAGE)
        backend.has_begun()
        futures = [restorer.submit(IMAGE) for _ in range(5)]
        restorer.close(cancel_pending=True)
        for future in [called, *futures]:
            with pytest.raises(CancelledError, match="the Restorer was closed"):
                future.result(20)
    assert backend.closed and backend.begun.empty()
    with pytest.raises(BackendError, match="closed"):
        restorer.submit(IMAGE)


def test_an_interrupted_block_waits_for_nothing(backend) -> None:
    futures = []
    with pytest.raises(KeyboardInterrupt), restorer_of(backend) as restorer:
        futures = [restorer.submit(IMAGE) for _ in range(3)]
        backend.has_begun()
        raise KeyboardInterrupt
    assert backend.closed and all(future.cancelled() for future in futures)


def test_a_failed_block_finishes_what_was_submitted(backend) -> None:
    with pytest.raises(ZeroDivisionError), restorer_of(backend) as restorer:
        future = restorer.submit(IMAGE)
        backend.let_go.set()
        _ = 1 / 0
    assert future.result(0) is not None


def test_no_thread_is_left(backend) -> None:
    before = threading.active_count()
    backend.let_go.set()
    restorer = restorer_of(backend, tile=512)
    restorer(IMAGE)
    futures = [restorer.submit(image_of(1024, 1024), timeout=60) for _ in range(3)]
    for future in futures:
        future.result(20)
    assert threading.active_count() > before
    restorer.close()
    assert threading.active_count() == before


def test_neither_results_nor_errors_keep_the_restorer(backend) -> None:
    """Its memory goes with the last reference, and does not wait for a garbage collection."""
    backend.let_go.set()
    restorer = restorer_of(backend)
    futures = [restorer.submit(IMAGE, timeout=60), restorer.submit(IMAGE), restorer.submit(None)]
    futures[1].cancel()
    concurrent.futures.wait(futures, timeout=20)
    with pytest.raises(UsageError):
        restorer(np.zeros((4, 4, 1), np.uint8))
    restorer.close()
    del futures[2]  # while it is there, its exception keeps the frames that it came through
    gone = weakref.ref(restorer)
    gc.disable()
    try:
        del restorer
        assert gone() is None
    finally:
        gc.enable()


def test_trim_gives_back_what_is_held(restorer, backend, monkeypatch) -> None:
    released: list[bool] = []
    monkeypatch.setattr(backend, "release", lambda: released.append(True))
    restorer.trim()
    assert released == [True]
    restorer.close()
    with pytest.raises(BackendError, match="closed"):
        restorer.trim()


TRIMMED = """
import json, sys
import maxim_deploy, numpy
from maxim_deploy.machine.memory import resident_bytes
with maxim_deploy.load(sys.argv[1], backend="onnxruntime") as restorer:
    restorer(numpy.zeros((256, 256, 3), numpy.uint8))
    held, before = restorer._work.require_open().held_bytes(), resident_bytes()
    restorer.trim()
    left = restorer._work.require_open().held_bytes()
    print(json.dumps(dict(held=held, given_back=before - resident_bytes(), left=left)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep what is freed")
def test_trim_gives_memory_back_to_the_system(demo_bundle) -> None:
    """In a process of its own: what other tests hold of the shared arena is not given back."""

    def holds(memory: dict) -> bool:
        assert memory["held"] > 10**7 and memory["left"] == 0
        return memory["given_back"] > memory["held"] / 2

    measure(holds, TRIMMED, demo_bundle)


# ------------------------------------------------------------------ progress


def test_progress_tells_of_each_run(backend) -> None:
    backend.let_go.set()
    restorer, told = restorer_of(backend, tile=128), []
    restorer.submit(image_of(192, 192), progress=told.append).result(20)
    assert told == [RunProgress(done, 4) for done in (1, 2, 3, 4)]
    told.clear()
    restorer.submit(IMAGE, self_ensemble=True, progress=told.append).result(20)
    assert told == [RunProgress(done, 8) for done in range(1, 9)]
    told.clear()
    restorer.submit(image_of(192, 192), self_ensemble=True, progress=told.append).result(20)
    assert [one.done for one in told] == list(range(1, 33)) and told[-1].total == 32


def test_what_progress_raises_ends_the_picture(restorer, backend) -> None:
    def fail(progress: RunProgress) -> None:
        raise ZeroDivisionError(progress.done)

    backend.let_go.set()
    with pytest.raises(ZeroDivisionError, match="1"):
        restorer.submit(IMAGE, progress=fail).result(20)
    works(restorer, backend)


@pytest.mark.parametrize("use", ["call", "close"])
def test_progress_cannot_use_its_restorer(restorer, backend, use) -> None:
    """It would wait for a turn that it has, or for its own thread."""
    backend.let_go.set()
    again = {"call": lambda _: restorer(IMAGE), "close": lambda _: restorer.close()}[use]
    with pytest.raises(UsageError, match="another thread"):
        restorer.submit(IMAGE, progress=again).result(20)
    works(restorer, backend)


# ------------------------------------------------------------------ what looks wrong


def test_a_float_picture_of_0_to_255_is_warned_of_once(restorer, backend) -> None:
    backend.let_go.set()
    with pytest.warns(PixelRangeWarning, match=r"in \[0, 1\] \| divide it by 255") as caught:
        restorer(IMAGE * 255)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restorer(IMAGE * 255)
        restorer.submit(IMAGE * 255).result(20)


@pytest.mark.parametrize("how", ["submit", "batch", "stack"])
def test_it_is_warned_of_however_it_comes(backend, how) -> None:
    backend.let_go.set()
    restorer, levels = restorer_of(backend), np.full((64, 64, 3), 3, np.float32)
    with pytest.warns(PixelRangeWarning) as caught:
        if how == "submit":
            restorer.submit(levels).result(20)
        elif how == "batch":
            restorer.batch([IMAGE, levels])
        else:
            restorer(levels.transpose(2, 0, 1)[None])
    assert caught[0].filename == __file__
    restorer.close()


def test_highlights_and_integers_are_no_reason_to_warn(restorer, backend) -> None:
    backend.let_go.set()
    bright = IMAGE.copy()
    bright[:8] = 3.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (bright, IMAGE, (IMAGE * 255).astype(np.uint8), np.zeros((1, 1, 3), "f")):
            restorer(image)
        with pytest.raises(UsageError, match="RGB"):
            restorer(np.full(3, 300, np.float32))


def test_a_gpu_backend_without_turns_runs_in_the_thread_of_the_caller() -> None:
    """A hand-over to another thread would be for nothing."""
    threads = []

    class Noting(Doubling):
        def run(self, image: np.ndarray) -> np.ndarray:
            threads.append(threading.current_thread())
            return super().run(image)

    restorer_of(Noting())(IMAGE)
    assert threads == [threading.current_thread()]
