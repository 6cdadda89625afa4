"""Steps about memory, with a machine whose memory is what the test says."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from accept.fakes import ForgetsShapes, Same

from maxim_deploy.accept import memory
from maxim_deploy.accept.memory import (
    compare_peak_with_plan,
    restore_in_little_memory,
    run_more_shapes_than_kept,
    run_out_of_memory,
)
from maxim_deploy.accept.step import CannotRunError, FaultError
from maxim_deploy.spec.profiles import Shape


class OfTheProcess(Same):
    """Its memory is the process's."""

    uses_host_memory = True

    def bytes_for(self, shape: Shape) -> int:
        return 1000 * shape.pixels


PLANNED = 1000 * 640 * 768


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Memory of this process: it has one gigabyte, and `takes` more at its peak."""
    facts = SimpleNamespace(takes=0.0)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 10**9)
    monkeypatch.setattr("maxim_deploy.runtime.allotment.resident_bytes", lambda: 10**9)
    monkeypatch.setattr(memory, "forget_peak", lambda: None)
    monkeypatch.setattr(memory, "peak_resident_bytes", lambda: int(10**9 + facts.takes))
    return facts


def test_more_shapes_than_are_kept(on) -> None:
    numbers = run_more_shapes_than_kept(on(Same))
    assert (numbers["shapes"], numbers["rounds"]) == (memory.KEPT + 2, 3)


def test_a_shape_that_comes_back_wrong(on) -> None:
    with pytest.raises(FaultError, match="a repeated shape"):
        run_more_shapes_than_kept(on(ForgetsShapes))


def test_a_result_that_is_another_after_memory_was_given_back(on) -> None:
    class ForgetsMore(Same):
        trimmed = 0

        def release(self) -> None:
            self.trimmed = 1

        def changed(self, image: np.ndarray) -> np.ndarray:
            return image * np.float32(1 - self.trimmed / 255)

    with pytest.raises(FaultError, match="a repeated shape"):
        run_more_shapes_than_kept(on(ForgetsMore))


def test_a_leak(on, monkeypatch) -> None:
    used: Iterator[int] = iter((10**9, 2 * 10**9, 2 * 10**9))
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(used))
    with pytest.raises(FaultError, match="took 1000000000 bytes more"):
        run_more_shapes_than_kept(on(Same))


def test_little_memory_makes_tiles(on, process) -> None:
    process.takes = memory.SHARE * PLANNED
    numbers = restore_in_little_memory(on(OfTheProcess))
    assert numbers["tiles"] > 1 and numbers["whole_bytes"] > PLANNED


def test_little_memory_that_is_exceeded(on, process) -> None:
    process.takes = PLANNED * 2
    with pytest.raises(FaultError, match=r"the process had \d+ bytes \| expected 1.25 times"):
        restore_in_little_memory(on(OfTheProcess))


def test_little_memory_that_is_not_looked_at(on, process, monkeypatch) -> None:
    plain = memory.Setting.open
    monkeypatch.setattr(memory.Setting, "open", lambda self, max_memory=None: plain(self))
    with pytest.raises(FaultError, match=r"max_memory=\d+ \| 640x768: whole.*expected tiles"):
        restore_in_little_memory(on(OfTheProcess))


@pytest.mark.parametrize("share", [0.55, 1.0, 1.2])
def test_a_peak_as_planned(on, process, share: float) -> None:
    process.takes = share * PLANNED
    numbers = compare_peak_with_plan(on(OfTheProcess))
    assert numbers["share"] == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("share", [0.3, 1.5])
def test_a_peak_that_nobody_planned(on, process, share: float) -> None:
    process.takes = share * PLANNED
    with pytest.raises(FaultError, match=r"of the plan of \d+ \| expected 0.5 to 1.25"):
        compare_peak_with_plan(on(OfTheProcess))


# ------------------------------------------------------------------ on a GPU


def test_no_memory_left_and_some_again(trt, with_engine) -> None:
    numbers = run_out_of_memory(with_engine("tensorrt"))
    assert "cudaErrorMemoryAllocation" in numbers["error"]
    assert numbers["lost_bytes"] == 0 and numbers["taken_bytes"] > 200 * 2**20


def test_memory_that_never_comes_back(trt, api, with_engine, monkeypatch) -> None:
    monkeypatch.setattr(type(api), "_cudaFree", lambda *_: ())
    with pytest.raises(FaultError, match=r"memory that is free again \| is not used"):
        run_out_of_memory(with_engine("tensorrt"))


def test_memory_that_is_lost_on_closing(trt, with_engine, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(
        "maxim_deploy.runtime.tensorrt_pool.Pool.close", lambda pool: kept.append(pool._memory)
    )
    monkeypatch.setattr(memory, "MAY_GROW", 10**6)
    with pytest.raises(FaultError, match="bytes are lost after closing"):
        run_out_of_memory(with_engine("tensorrt"))


def test_a_first_run_that_is_wrong(trt, with_engine, monkeypatch) -> None:
    answers = iter((False, True))
    monkeypatch.setattr(memory, "same_bits", lambda *_: next(answers))
    with pytest.raises(FaultError, match="the first run after running out of memory"):
        run_out_of_memory(with_engine("tensorrt"))


def test_more_memory_than_can_be_taken_is_no_fault(trt, with_engine, monkeypatch) -> None:
    monkeypatch.setattr(memory, "LEFT", 512 * 2**20)
    with pytest.raises(CannotRunError, match="the run fits into the remaining memory"):
        run_out_of_memory(with_engine("tensorrt"))


def test_the_peak_on_a_gpu(trt, with_engine) -> None:
    numbers = compare_peak_with_plan(with_engine("tensorrt"))
    assert numbers["peak_bytes"] > 1080 * 1920 * 10
    assert numbers["share"] == pytest.approx(1, abs=0.25)


def test_a_peak_that_is_gone_at_the_end_is_seen(trt, with_engine, monkeypatch) -> None:
    """Of a run that gives its memory back, what a watcher saw counts."""
    seen = iter([0] + [5 * 10**9] * 10**6)

    def used(_: object) -> int:
        return next(seen)

    monkeypatch.setattr(memory, "_used_bytes", used)
    with pytest.raises(FaultError, match="5000000000 bytes"):
        compare_peak_with_plan(with_engine("tensorrt"))
