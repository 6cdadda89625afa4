from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import reference
import torch
from benchmarks.bundles import weights_only
from graph.small_graphs import SHAPE, UNIT, node, write
from torch.utils.flop_counter import FlopCounterMode

from maxim_deploy.benchmarks.artifacts import baseline_file
from maxim_deploy.benchmarks.subjects import Subject
from maxim_deploy.checkpoints import open_model
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.export import FORMS, DeploymentMaxim
from maxim_deploy.graph.cost.cost import Cost, NodeCost, cost_of
from maxim_deploy.graph.cost.values import Value, values_of
from maxim_deploy.model import module_from_checkpoint

PIXELS = 64 * 64


def test_a_convolution(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Conv", "image kernel", "restored", pads=[1, 1, 1, 1]),
        kernel=np.ones((3, 3, 3, 3), np.float32),
    )
    cost = cost_of(graph, SHAPE)
    # 9 taps of 3 channels to 3 channels; image and result once, the kernel once
    assert cost.nodes == (NodeCost("restored", "Conv", 2 * PIXELS * 3 * 27, 2 * UNIT + 81 * 4),)
    assert cost.operations / cost.pixels == 2 * 81
    assert cost.fused_bytes == cost.bytes


@pytest.mark.parametrize(("group", "kernel"), [(3, (3, 1, 4, 4)), (1, (3, 3, 4, 4))])
def test_a_strided_convolution_in_groups(
    group: int, kernel: tuple[int, ...], tmp_path: Path
) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Conv", "image kernel", "restored", strides=[2, 2], pads=[1, 1, 1, 1], group=group),
        kernel=np.ones(kernel, np.float32),
    )
    assert cost_of(graph, SHAPE).operations == 2 * (PIXELS // 4) * 3 * 16 * (3 // group)


def test_a_transposed_convolution(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("ConvTranspose", "image kernel", "restored", strides=[2, 2]),
        kernel=np.ones((3, 5, 2, 2), np.float32),
    )
    # every one of 4 * PIXELS results is met by one tap of 3 channels, to 5 channels
    assert cost_of(graph, SHAPE).operations == 2 * 4 * PIXELS * 3 * 5


def test_a_matrix_product_from_the_left_broadcasts(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("MatMul", "matrix image", "restored"),
        matrix=np.ones((64, 64), np.float32),
    )
    cost = cost_of(graph, SHAPE)
    assert cost.operations == 2 * 3 * 64**3
    assert cost.bytes == 2 * UNIT + 64 * 64 * 4


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int, tmp_path: Path) -> None:
    rows, depth = (12, 1024) if not transposed else (1024, 12)
    graph = write(
        tmp_path / "g.onnx",
        node("Reshape", "image flat", "a"),
        node("Gemm", "a b bias", "restored", transA=transposed),
        flat=np.array([12, 1024]),
        b=np.ones((depth, 5), np.float32),
        bias=np.ones(5, np.float32),
    )
    cost = cost_of(graph, SHAPE)
    assert cost.operations == 2 * rows * depth * 5
    assert [node.bytes for node in cost.nodes] == [0, UNIT + 4 * (depth * 5 + 5 + rows * 5)]


def test_elementwise_nodes_count_their_bytes_and_vanish_when_fused(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Relu", "image", "a"),
        node("Add", "a image", "b"),
        node("Mul", "b b", "c"),  # one tensor, read once
        node("Slice", "c start end axes", "restored"),
        start=np.array([0]),
        end=np.array([16]),
        axes=np.array([2]),
    )
    cost = cost_of(graph, SHAPE)
    assert [node.bytes for node in cost.nodes] == [2 * UNIT, 3 * UNIT, 2 * UNIT, UNIT // 2]
    assert (cost.operations, cost.fused_bytes) == (0, 0)


def test_what_is_done_when_loading_is_not_counted(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Constant", "", "one", value_float=1.0),
        node("Mul", "weight one", "scaled"),
        node("Add", "image scaled", "restored"),
        weight=np.ones((1, 3, 1, 1), np.float32),
    )
    assert [node.operator for node in cost_of(graph, SHAPE).nodes] == ["Add"]


def test_half_precision_moves_half(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Cast", "image", "h", to=onnx.TensorProto.FLOAT16),
        node("Relu", "h", "i"),
        node("Cast", "i", "restored", to=onnx.TensorProto.FLOAT),
    )
    found = [node.bytes for node in cost_of(graph, SHAPE).nodes]
    assert found == [1.5 * UNIT, UNIT, 1.5 * UNIT]


def test_the_bound_takes_the_slower_of_the_two_for_each_node() -> None:
    cost = Cost(
        pixels=1,
        nodes=(
            NodeCost("a", "MatMul", 100, 1),
            NodeCost("b", "Conv", 1, 50),
            NodeCost("c", "Relu", 0, 20),
        ),
    )
    assert cost.bound_s(10, 5) == 100 / 10 + 50 / 5 + 20 / 5
    assert cost.bound_s(10, 5, fused=True) == 100 / 10 + 50 / 5


def test_an_operator_without_a_formula_is_refused(tmp_path: Path) -> None:
    graph = write(tmp_path / "g.onnx", node("Einsum", "image", "restored", equation="nchw->nhwc"))
    with pytest.raises(UsageError, match="no formula for the operations of Einsum in 'restored'"):
        cost_of(graph, SHAPE)


def test_a_graph_that_does_not_take_the_shape(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx", node("Reshape", "image side", "restored"), side=np.array([7])
    )
    with pytest.raises(BackendError, match="ONNX Runtime cannot run the graph at 1x3x64x64"):
        cost_of(graph, SHAPE)


def test_values_have_shape_and_size(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Shape", "image", "size"),
        node("Relu", "image", "restored"),
        unread=np.float32(1),
    )
    values = values_of(onnx.load(graph), SHAPE)
    assert values == {
        "image": Value(SHAPE, 4),
        "size": Value((4,), 8),
        "restored": Value(SHAPE, 4),
        "unread": Value((), 4),
    }
    assert (values["image"].bytes, values["unread"].elements) == (UNIT, 1)


def _counted_by_torch(module: torch.nn.Module, size: tuple[int, int]) -> dict[str, int]:
    """Operations of a module and of each of its parts, by name."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, *size))
    return {name: sum(parts.values()) for name, parts in counter.get_flop_counts().items()}


def test_the_deployment_graph_has_the_operations_that_torch_counts(demo_bundle: Path) -> None:
    module = DeploymentMaxim(module_from_checkpoint(open_model("demo-denoise")))
    tensor, image = (demo_bundle / f"fp32.{io}.onnx" for io in ("tensor", "image"))
    cost = cost_of(tensor, (1, 3, 128, 64))
    assert cost.operations == _counted_by_torch(module, (128, 64))["Global"]

    padded = cost_of(image, (1, 127, 63, 3))  # becomes 128x64
    assert padded.operations == cost.operations
    assert padded.pixels == 127 * 63
    assert padded.bytes > cost.bytes


def test_the_gpus_form_has_the_operations_that_torch_counts(demo_bundle: Path) -> None:
    """More than the CPU's, by the rows of zeros of joined halves, in about half of the bytes."""
    module = DeploymentMaxim(module_from_checkpoint(open_model("demo-denoise")), FORMS["gpu"])
    full, low = (
        cost_of(demo_bundle / f"{name}.tensor.onnx", (1, 3, 128, 64)) for name in ("fp32", "fp16")
    )
    assert low.operations == _counted_by_torch(module, (128, 64))["Global"] > full.operations
    assert low.bytes < full.bytes


@pytest.mark.xdist_group("literal S-1")
@pytest.mark.slow
def test_the_literal_graph_has_the_operations_that_torch_counts(
    kept_traces: None, tmp_path: Path
) -> None:
    literal = Subject("literal", is_baseline=True)
    checkpoint = reference.checkpoint("S-1")  # whose trace is kept for other tests anyway
    graph = baseline_file(literal, weights_only(tmp_path, checkpoint), tmp_path, lambda _: None)
    cost = cost_of(graph, (1, 3, 64, 128))
    counted = _counted_by_torch(module_from_checkpoint(checkpoint), (64, 128))
    # The graph leaves out what the full-size result does not need: the images at lower scales.
    unneeded = sum(counted[f"Maxim.stage_0_output_conv_{level}"] for level in (1, 2))
    assert cost.operations == counted["Global"] - unneeded
