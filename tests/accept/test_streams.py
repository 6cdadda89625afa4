"""Steps about work that overlaps, with a torch and a CUDA that are not there."""

from __future__ import annotations

import ctypes

import pytest
from accept.fakes import DeviceRestorer, FakeTorch, Restless, Same, SharedBuffer, Slowly, TwoLanes

pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")

from runtime import fake_tensorrt
from runtime.cuda.fakes import ERRORS

from maxim_deploy.accept import streams
from maxim_deploy.accept.step import CannotRunError, FaultError, Setting
from maxim_deploy.accept.streams import (
    launch_graph,
    read_default_stream,
    read_pending_work,
    run_in_external_stream,
    run_two_lanes,
)
from maxim_deploy.errors import BundleError, MissingDependencyError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxim_deploy.accept.engine.TIMED_S", 0.0)


@pytest.mark.parametrize("kind", [Same, TwoLanes, Slowly])
def test_lanes_that_agree(on, kind) -> None:
    assert run_two_lanes(on(kind)) == {"runs": 12, "differing": 0}


def test_lanes_that_differ(on) -> None:
    with pytest.raises(FaultError, match="of 12 differ from the same run alone") as failed:
        run_two_lanes(on(SharedBuffer))
    assert failed.value.numbers["differing"] > 0


def test_results_that_never_settle(on) -> None:
    with pytest.raises(FaultError, match="differs from run to run"):
        run_two_lanes(on(Restless))


PENDING = [read_pending_work, read_default_stream, run_in_external_stream]


def torch_and_restorer(monkeypatch, io: str, waits: bool) -> list[dict[str, object]]:
    """A torch, and a restorer that waits for its stream or does not; the options it was given."""
    torch, options = FakeTorch(), []

    def opened(self: Setting, **given: object) -> DeviceRestorer:
        options.append(given)
        return DeviceRestorer(torch, io, waits)

    monkeypatch.setattr(streams, "require", lambda *_: torch)
    monkeypatch.setattr(Setting, "open", opened)
    return options


@pytest.mark.parametrize("io", ["image", "tensor"])
@pytest.mark.parametrize("step", PENDING)
def test_a_tensor_that_is_waited_for(monkeypatch, step, io: str) -> None:
    options = torch_and_restorer(monkeypatch, io, waits=True)
    assert step(Setting("bundle", "tensorrt")) == {"rounds": 3}
    assert options == [{"stream": 77} if step is run_in_external_stream else {}]


@pytest.mark.parametrize("step", PENDING)
def test_a_tensor_that_is_read_too_early(monkeypatch, step) -> None:
    torch_and_restorer(monkeypatch, "image", waits=False)
    with pytest.raises(FaultError, match="torch was still writing .* must wait for the stream"):
        step(Setting("bundle", "tensorrt"))


@pytest.mark.parametrize("step", PENDING)
def test_a_torch_without_cuda(monkeypatch, step) -> None:
    monkeypatch.setattr(streams, "require", lambda *_: FakeTorch(available=False))
    with pytest.raises(CannotRunError, match="cannot use CUDA"):
        step(Setting("bundle", "tensorrt"))


def test_no_torch_at_all(monkeypatch) -> None:
    def missing(*_: object) -> None:
        raise MissingDependencyError("torch is not installed")

    monkeypatch.setattr(streams, "require", missing)
    with pytest.raises(MissingDependencyError):
        read_pending_work(Setting("bundle", "tensorrt"))


def test_a_graph_that_is_captured_and_launched(trt, with_engine) -> None:
    numbers = launch_graph(with_engine("tensorrt"))
    assert numbers["captures"] == 1 and numbers["launches"] >= streams.GRAPH_RUNS - 1
    assert numbers["off_ms"] > 0 and numbers["on_ms"] > 0


def test_a_graph_that_is_never_captured(trt, api, with_engine) -> None:
    api.fail["cudaGraphInstantiate"] = ERRORS.cudaErrorNotSupported
    with pytest.raises(FaultError, match="0 captured and 0 launched"):
        launch_graph(with_engine("tensorrt"))


def test_a_graph_that_computes_something_else(trt, api, with_engine, monkeypatch) -> None:
    def launch(self, graph: object, stream: object) -> tuple[()]:
        with monkeypatch.context() as patch:
            patch.setattr(fake_tensorrt, "_invert", lambda _, to, size: ctypes.memset(to, 7, size))
            for work in self.graphs[int(graph)]:
                work()
        return ()

    monkeypatch.setattr(type(api), "_cudaGraphLaunch", launch)
    with pytest.raises(FaultError, match="result of a CUDA graph"):
        launch_graph(with_engine("tensorrt"))


def test_rtx_captures_by_itself(trt, with_engine) -> None:
    numbers = launch_graph(with_engine("tensorrt-rtx"))
    assert (numbers["captures"], numbers["launches"]) == (0, 0)


def test_no_engine(trt, with_engine) -> None:
    setting = with_engine("tensorrt")
    with pytest.raises(BundleError, match="no engine of tensorrt-rtx for 256x256"):
        launch_graph(Setting(setting.bundle, "tensorrt-rtx"))
