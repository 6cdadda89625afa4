from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.samples import TRAFFIC
from graph.small_graphs import node, write

from maxim_deploy.benchmarks import roofline as subject
from maxim_deploy.benchmarks.ceilings import Ceilings
from maxim_deploy.benchmarks.roofline import SIDE, Roofline
from maxim_deploy.errors import BackendError
from maxim_deploy.spec.profiles import Shape


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Which ceilings were measured; they are 1 GFLOP/s and 1 GB/s."""
    found: list[tuple[str, str]] = []

    def ceilings(threads: int | None, *, device: str, precision: str) -> Ceilings:
        found.append((device, precision))
        return Ceilings(1.0, 1.0, "fake 1", device, threads, precision)

    monkeypatch.setattr(subject, "ceilings", ceilings)
    return found


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write(
        tmp_path / "g.onnx",
        node("Conv", "image kernel", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "restored"),
        kernel=np.ones((3, 3, 3, 3), np.float32),
    )


def cost(limits: Roofline, graph: Path, **changes: object) -> dict | None:
    facts = {"pixels": 1000, "device": "cpu", "precision": "fp32", "p50_ms": 1.0}
    return limits.cost(graph, "tensor", **{**facts, **changes})  # type: ignore[arg-type]


def test_bounds_and_shares_by_hand(asked: list, graph: Path) -> None:
    found = cost(Roofline(2, print), graph)
    assert found is not None
    weights = 81 * 4 / SIDE**2
    assert found["operations_per_pixel"] == 2 * 81
    assert found["bytes_per_pixel"] == pytest.approx(4 * 3 * 4 + weights)
    assert found["fused_bytes_per_pixel"] == pytest.approx(2 * 3 * 4 + weights)
    # the convolution by its operations, the other by its bytes: nanoseconds for a pixel
    assert found["fused_bound_ms"] == pytest.approx(1000 * 162e-6)
    assert found["bound_ms"] == pytest.approx(1000 * (162 + 24) * 1e-6)
    assert found["share"] == pytest.approx(found["bound_ms"])
    assert cost(Roofline(2, print), graph, p50_ms=2.0)["share"] == found["share"] / 2  # type: ignore[index]
    assert (found["gflops"], found["gbps"]) == (1.0, 1.0)


def test_ceilings_are_those_of_the_arithmetic_and_measured_once(asked: list, graph: Path) -> None:
    limits = Roofline(2, print)
    for device, precision in [("cpu", "fp32"), ("cpu", "fp16"), ("cuda", "fp16"), ("cuda", "bf16")]:
        cost(limits, graph, device=device, precision=precision)
    assert asked == [("cpu", "fp32"), ("cuda", "fp16")]


def test_what_cannot_be_had_is_said(
    graph: Path, tmp_path: Path, asked: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    einsum = write(tmp_path / "e.onnx", node("Einsum", "image", "restored", equation="nchw->nhwc"))
    assert cost(Roofline(1, said.append), einsum) is None
    assert "no cost of e.onnx | no formula" in said[-1]

    def none(*_: object, **__: object) -> Ceilings:
        raise BackendError("this onnxruntime cannot use 'cuda' here")

    monkeypatch.setattr(subject, "ceilings", none)
    assert cost(Roofline(1, said.append), graph, device="cuda") is None
    assert said[-1] == "no ceilings of this machine | this onnxruntime cannot use 'cuda' here"


L4 = "cuda:0 NVIDIA L4"
PIXELS = 64 * 64


def bound(limits: Roofline, graph: Path, device: str = L4, **changes: object) -> dict | None:
    facts = {"device": device, "precision": "fp16", "took_ms": 10.0, **changes}
    return limits.bound(TRAFFIC, graph, "tensor", Shape(1, 64, 64), **facts)  # type: ignore[arg-type]


def test_a_bound_of_an_engine_by_hand(asked: list, graph: Path) -> None:
    found = bound(Roofline(1, print), graph)
    assert found is not None and asked == [("cuda", "fp16")]
    # 70 bytes at 1 GB/s take less than 162 operations at 1 GFLOP/s.
    assert found["bound_ms"] == pytest.approx(PIXELS * 162e-6)
    assert found["share"] == pytest.approx(found["bound_ms"] / 10)
    assert (found["bytes_per_pixel"], found["operations_per_pixel"]) == (70.0, 162)
    assert (found["gpu"], found["source"]) == ("NVIDIA L4", "measured here with fake 1")


def test_rates_that_were_not_measured_are_the_makers(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> Ceilings:
        raise BackendError("this onnxruntime cannot use 'cuda' here")

    monkeypatch.setattr(subject, "ceilings", none)
    said: list[str] = []
    found = bound(Roofline(1, said.append), graph)
    assert found is not None and found["bound_ms"] == pytest.approx(1e3 * 70 * PIXELS / 300e9)
    assert (found["source"], found["gflops"]) == ("NVIDIA L4 data sheet", 121e3)

    einsum = write(tmp_path / "e.onnx", node("Einsum", "image", "restored", equation="nchw->nhwc"))
    uncounted = bound(Roofline(1, said.append), einsum)
    assert uncounted is not None and uncounted["operations_per_pixel"] is None
    assert uncounted["bound_ms"] == found["bound_ms"]

    assert bound(Roofline(1, said.append), graph, "cuda:0 NVIDIA T1000") is None
    assert said[-1].startswith("no bound of NVIDIA T1000: its rates are not known | install ")


def test_facts_of_a_graph(graph: Path) -> None:
    found = Roofline(1, print).graph_facts(graph, "tensor")
    assert found == {
        "nodes": 2, "transposes": 0, "live_bytes_per_pixel": 36.0, "live_at": "restored",
    }  # fmt: skip


def test_facts_that_cannot_be_had_are_said(tmp_path: Path) -> None:
    """A CPU runs no bfloat16; what was timed must not be lost for that."""
    said: list[str] = []
    side = np.array([7])
    graph = write(tmp_path / "g.onnx", node("Reshape", "image side", "restored"), side=side)
    assert Roofline(None, said.append).graph_facts(graph, "tensor") is None
    assert said and said[0].startswith("no facts of g.onnx | ")
