"""Steps about time; how long anything took is what the test says."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest
from accept.fakes import Same

pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")

from runtime import fake_tensorrt

from maxim_deploy.accept import speed
from maxim_deploy.accept.speed import compare_lazy_with_eager, compare_with_bound, profile_by_block
from maxim_deploy.accept.step import CannotRunError, FaultError, Setting
from maxim_deploy.benchmarks import roofline
from maxim_deploy.benchmarks.ceilings import Ceilings
from maxim_deploy.benchmarks.timing import Timed
from maxim_deploy.errors import BackendError


def profiled(monkeypatch, unplaced: float, **blocks: float) -> None:
    total = unplaced + sum(blocks.values())
    found = SimpleNamespace(
        by_block=lambda: blocks, unattributed_ms=unplaced, nodes_ms=total, wall_ms=total
    )
    monkeypatch.setattr(speed, "profile_bundle", lambda *_, **__: found)


def test_a_profile(on, monkeypatch) -> None:
    profiled(monkeypatch, unplaced=0.1, gmlp=9.0)
    assert profile_by_block(on(Same))["blocks_ms"] == {"gmlp": 9.0}


def test_a_profile_of_a_bundle(bundle) -> None:
    numbers = profile_by_block(Setting(str(bundle), "onnxruntime"))
    assert numbers["blocks_ms"] and numbers["unplaced_ms"] == 0


@pytest.mark.parametrize(
    "unplaced, blocks, why",
    [(1.0, {"gmlp": 9.0}, "1 of 10 ms belong to no block"), (0.0, {}, "no time belongs")],
)
def test_a_profile_that_says_nothing(on, monkeypatch, unplaced, blocks, why: str) -> None:
    profiled(monkeypatch, unplaced, **blocks)
    with pytest.raises(FaultError, match=why):
        profile_by_block(on(Same))


def takes(monkeypatch, ms: float, gpu_ms: float | None = None) -> None:
    """A network that takes so long; 10 ms is its bound, and 5 ms that of its products."""
    timed = Timed(ms, gpu_ms)
    runner = SimpleNamespace(brackets={"network": lambda: timed})
    monkeypatch.setattr(speed, "runner_of", lambda _: runner)
    monkeypatch.setattr(speed, "warm_up", lambda *_: None)
    monkeypatch.setattr(speed, "turn", lambda *_: [timed])
    monkeypatch.setattr(speed, "bounds_ms", lambda *_: (10.0, 5.0))


@pytest.mark.parametrize("ms, gpu_ms", [(20.0, None), (6.0, None), (1000.0, 20.0)])
def test_a_time_near_its_bound(on, monkeypatch, ms: float, gpu_ms: float | None) -> None:
    takes(monkeypatch, ms, gpu_ms)
    assert compare_with_bound(on(Same))["p50_ms"] == (gpu_ms or ms)


@pytest.mark.parametrize("ms, gpu_ms", [(101.0, None), (4.0, None), (20.0, 1.0)])
def test_a_time_that_cannot_be(on, monkeypatch, ms: float, gpu_ms: float | None) -> None:
    takes(monkeypatch, ms, gpu_ms)
    with pytest.raises(FaultError, match=r"ms \| expected 4.5 \(the products alone\) to 100"):
        compare_with_bound(on(Same))


def test_the_bound_of_a_graph(bundle, monkeypatch) -> None:
    def measured(threads: int | None, *, device: str, precision: str) -> Ceilings:
        return Ceilings(1.0, 1.0, "fake 1", device, threads, precision)

    monkeypatch.setattr(roofline, "ceilings", measured)
    setting = Setting(str(bundle), "onnxruntime")
    info = SimpleNamespace(precision="fp32", io="tensor", device="cpu")
    bound, products = speed.bounds_ms(setting, info)
    # One operator in float32: each value is read once and written once, at 1 GB/s.
    assert bound == pytest.approx(640 * 768 * 3 * 4 * 2 / 1e6) and products == 0


def test_no_bound_is_no_fault(bundle, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BackendError("this onnxruntime cannot use 'cuda' here")

    monkeypatch.setattr(roofline, "ceilings", refuse)
    info = SimpleNamespace(precision="fp16", io="tensor", device="cuda:0 NVIDIA L4")
    with pytest.raises(CannotRunError, match=r"no bound \| .*cannot use 'cuda' here"):
        speed.bounds_ms(Setting(str(bundle), "onnxruntime"), info)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Milliseconds of eager and of lazy kernels."""
    found: list[float] = [10.0, 10.0]
    left = iter(found)
    monkeypatch.setattr(speed, "median_ms", lambda _: next(left))
    return found


def test_lazy_kernels_that_are_as_good(trt, with_engine, times) -> None:
    numbers = compare_lazy_with_eager(with_engine("tensorrt-rtx"))
    assert (numbers["eager_ms"], numbers["lazy_ms"]) == (10.0, 10.0)
    chosen = [
        config.dynamic_shapes_kernel_specialization_strategy
        for engine in trt.engines
        for config in engine.configs
    ]
    assert chosen == ["eager", "lazy"]


def test_lazy_kernels_that_are_never_made(trt, with_engine, times) -> None:
    times[1] = 20.0
    with pytest.raises(FaultError, match=r"lazy kernels \| 20 ms after their warm-up"):
        compare_lazy_with_eager(with_engine("tensorrt-rtx"))


def test_lazy_kernels_that_compute_something_else(trt, with_engine, times, monkeypatch) -> None:
    def invert(source: int, target: int, size: int) -> None:
        right = plain(source, target, size)
        return right if len(trt.engines) == 1 else ctypes.memset(target, 7, size)  # type: ignore[return-value]

    plain = fake_tensorrt._invert
    monkeypatch.setattr(fake_tensorrt, "_invert", invert)
    with pytest.raises(FaultError, match=r"lazy kernels \| .* dB to eager ones"):
        compare_lazy_with_eager(with_engine("tensorrt-rtx"))
