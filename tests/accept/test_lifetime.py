"""Steps about the life of a process."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from accept.fakes import Brighter, Same

from maxim_deploy.accept import lifetime
from maxim_deploy.accept.lifetime import close_at_once, keep_compiled_kernels, kill_and_start_again
from maxim_deploy.accept.step import FaultError, Setting
from maxim_deploy.errors import BackendError


def test_closing_at_once(on) -> None:
    numbers = close_at_once(on(Same))
    assert numbers["jobs"] == lifetime.JOBS


class Careless:
    """A restorer that closes, and leaves what was submitted where it is."""

    def __init__(self, finishes: bool, stays_open: bool = False) -> None:
        self.finishes, self.stays_open, self.is_open = finishes, stays_open, True

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if not self.is_open and not self.stays_open:
            raise BackendError("this Restorer is closed")
        return image

    def submit(self, image: np.ndarray) -> Future:
        future: Future = Future()
        if self.finishes:
            future.set_result(image)
        return future

    def close(self) -> None:
        self.is_open = False


def opens(monkeypatch: pytest.MonkeyPatch, restorer: object) -> Setting:
    monkeypatch.setattr(Setting, "open", lambda self: restorer)
    return Setting("bundle", "onnxruntime")


def test_jobs_that_are_left(monkeypatch) -> None:
    with pytest.raises(FaultError, match="left 6 of 6 jobs unfinished"):
        close_at_once(opens(monkeypatch, Careless(finishes=False)))


def test_a_call_after_closing_that_returns(monkeypatch) -> None:
    with pytest.raises(FaultError, match=r"after close.. \| returned a picture"):
        close_at_once(opens(monkeypatch, Careless(finishes=True, stays_open=True)))


def test_jobs_that_end_in_an_error(on, monkeypatch) -> None:
    class Failing(Careless):
        def submit(self, image: np.ndarray) -> Future:
            future: Future = Future()
            future.set_exception(BackendError("this engine is closed"))
            return future

    with pytest.raises(BackendError, match="this engine is closed"):
        close_at_once(opens(monkeypatch, Failing(finishes=True)))


def test_closing_that_takes_long(monkeypatch) -> None:
    clock = iter((0.0, 1.0, 1.0, 100.0))
    monkeypatch.setattr(lifetime, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with pytest.raises(FaultError, match=r"took 99 s for 6 jobs of 1.0 s"):
        close_at_once(opens(monkeypatch, Careless(finishes=True)))


def test_killed_and_started_again(bundle: Path) -> None:
    assert kill_and_start_again(Setting(str(bundle), "onnxruntime"))["again_s"] > 0


def test_another_result_after_a_kill(bundle: Path, on, monkeypatch) -> None:
    after = on(Brighter).open()
    monkeypatch.setattr(Setting, "open", lambda self: after)
    with pytest.raises(FaultError, match=r"results before and after a kill \| .* levels apart"):
        kill_and_start_again(Setting(str(bundle), "onnxruntime"))


def test_a_process_that_does_not_wait_to_be_killed(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="the process to kill ended with exit code 1 by itself"):
        kill_and_start_again(Setting(str(tmp_path / "nothing"), "onnxruntime"))


def compiles(monkeypatch: pytest.MonkeyPatch, kernels: bytes) -> None:
    """Each run of the fake engine leaves kernels in its runtime cache."""
    from runtime.fake_tensorrt import FakeContext

    plain = FakeContext.execute_async_v3

    def execute(self, stream_handle: int) -> bool:
        self.made_with.cache.content = kernels
        return plain(self, stream_handle)

    monkeypatch.setattr(FakeContext, "execute_async_v3", execute)


def test_kernels_that_are_kept(trt, with_engine, monkeypatch) -> None:
    compiles(monkeypatch, b"kernels")
    setting = with_engine("tensorrt-rtx")
    assert keep_compiled_kernels(setting)["cache_bytes"] > len(b"kernels")


def test_kernels_that_are_not_saved(trt, with_engine, monkeypatch) -> None:
    compiles(monkeypatch, b"kernels")
    monkeypatch.setattr("maxim_deploy.runtime.tensorrt_settings.RuntimeCache.save", lambda _: None)
    with pytest.raises(FaultError, match=r"compiled kernels \| were not saved"):
        keep_compiled_kernels(with_engine("tensorrt-rtx"))


def test_kernels_of_an_earlier_run_do_not_count(trt, with_engine, monkeypatch) -> None:
    compiles(monkeypatch, b"kernels")
    setting = with_engine("tensorrt-rtx")
    keep_compiled_kernels(setting)
    monkeypatch.setattr("maxim_deploy.runtime.tensorrt_settings.RuntimeCache.save", lambda _: None)
    with pytest.raises(FaultError, match="were not saved"):
        keep_compiled_kernels(setting)
