"""A job that is left early ends what it has in the network, and only that."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from runtime.fakes import Stoppable, restorer_of

from maxim_deploy import CancelledError
from maxim_deploy.jobs.background import in_order
from maxim_deploy.jobs.calls import Calls

PICTURE = np.zeros((64, 64, 3), np.float32)


def test_abandoned_calls_end_and_those_of_others_go_on() -> None:
    backend = Stoppable(lanes=3)
    with restorer_of(backend) as restorer, ThreadPoolExecutor(2) as pool:
        calls = Calls(restorer)
        ours = [pool.submit(calls, PICTURE) for _ in range(2)]
        other = restorer.submit(PICTURE)
        backend.has_begun()  # the first is alone, and the others wait
        calls.abandon()
        for future in ours:
            with pytest.raises(CancelledError):
                future.result(timeout=20)
        assert not other.done()
        backend.let_go.set()
        assert other.result(timeout=20).shape == PICTURE.shape
        assert calls(PICTURE).shape == PICTURE.shape


def test_frames_that_are_left_early_are_not_waited_for() -> None:
    backend = Stoppable(lanes=2)
    with restorer_of(backend) as restorer:
        calls = Calls(restorer)

        def items():
            yield PICTURE
            yield PICTURE
            backend.has_begun()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(in_order(items(), calls, 2, calls.abandon))  # `let_go` is not set
        backend.let_go.set()
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("maxim-deploy-network") for name in names)


def test_an_interrupted_folder_is_not_waited_for(tmp_path, monkeypatch) -> None:
    import maxim_deploy

    for name in "abc":
        maxim_deploy.write_image(tmp_path / f"{name}.png", np.zeros((64, 64, 3), np.uint8))
    backend = Stoppable(lanes=2)

    def interrupt(progress) -> None:
        if backend.begun.qsize() or wait_for(backend):
            raise KeyboardInterrupt

    with restorer_of(backend) as restorer:
        results = maxim_deploy.restore_files(
            restorer, [tmp_path], tmp_path / "out", progress=interrupt
        )
        with pytest.raises(KeyboardInterrupt):
            list(results)
        backend.let_go.set()
    assert list((tmp_path / "out").iterdir()) == []


def wait_for(backend: Stoppable) -> bool:
    """Whether a run has begun, after a moment."""
    time.sleep(0.1)
    return backend.begun.qsize() > 0
