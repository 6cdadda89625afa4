from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph.small_graphs import SHAPE, UNIT, node, write
from onnx import helper

from maxim_deploy.errors import UsageError
from maxim_deploy.graph.checks import operator_counts
from maxim_deploy.graph.cost.live_set import LiveSet, live_set

PIXELS = 64 * 64


def test_a_chain_needs_the_input_and_two_more(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Relu", "image", "a"),
        node("Relu", "a", "b"),
        node("Relu", "b", "restored"),
    )
    assert live_set(graph, SHAPE) == LiveSet(3 * UNIT, "b", PIXELS)  # image, a, b
    assert live_set(graph, SHAPE).bytes_per_pixel == 36


def test_what_is_read_later_stays(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Relu", "image", "a"),
        node("Relu", "a", "b"),
        node("Relu", "b", "c"),
        node("Add", "c a", "restored"),
    )
    assert live_set(graph, SHAPE) == LiveSet(4 * UNIT, "c", PIXELS)  # image, a, b, c


def test_a_view_counts_once_and_keeps_its_source(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Relu", "image", "a"),
        node("Reshape", "a flat", "v"),
        node("Unsqueeze", "v first", "w"),
        node("Squeeze", "w first", "x"),
        node("Relu", "x", "b"),  # image, a by way of x, b
        node("Reshape", "b back", "restored"),
        flat=np.array([-1]),
        first=np.array([0]),
        back=np.array(SHAPE),
    )
    assert live_set(graph, SHAPE) == LiveSet(3 * UNIT, "b", PIXELS)


def test_a_view_of_the_input_is_the_input(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Reshape", "image flat", "v"),
        node("Relu", "v", "restored"),
        flat=np.array([-1]),
    )
    assert live_set(graph, SHAPE).bytes == 2 * UNIT


def test_an_output_lives_to_the_end(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Relu", "image", "early"),
        node("Relu", "image", "a"),
        node("Relu", "a", "restored"),
        outputs="early restored",
    )
    assert live_set(graph, SHAPE) == LiveSet(4 * UNIT, "restored", PIXELS)


def test_what_nobody_reads_lives_for_its_own_node(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Concat", "image image", "double", axis=1),
        node("Split", "double", "a unread", axis=1, num_outputs=2),
        node("Relu", "a", "b"),
        node("Relu", "b", "restored"),
    )
    # At the split: image 1, double 2, a 1, unread 1.
    assert live_set(graph, SHAPE) == LiveSet(5 * UNIT, "a", PIXELS)


def test_weights_and_constants_are_not_counted(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Identity", "weight", "again"),
        node("Constant", "", "one", value_float=1.0),
        node("Mul", "again one", "scaled"),  # computed, so it does count
        node("Add", "image again", "restored"),
        weight=np.ones((1, 3, 1, 1), np.float32),
    )
    assert live_set(graph, SHAPE).bytes == 2 * UNIT


def test_half_precision_counts_half(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Cast", "image", "h", to=onnx.TensorProto.FLOAT16),
        node("Relu", "h", "i"),
        node("Cast", "i", "restored", to=onnx.TensorProto.FLOAT),
    )
    assert live_set(graph, SHAPE) == LiveSet(int(2.5 * UNIT), "restored", PIXELS)


def test_a_subgraph_is_refused(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [node("Relu", "image", "r")],
        "branch",
        [],
        [helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, None)],
    )
    graph = write(
        tmp_path / "g.onnx",
        node("If", "yes", "restored", then_branch=branch, else_branch=branch),
        yes=np.array(True),
    )
    with pytest.raises(UsageError, match=r"the graph has a subgraph in 'restored' \(If\)"):
        live_set(graph, SHAPE)


def test_operators_are_counted(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx",
        node("Transpose", "image", "a", perm=[0, 2, 3, 1]),
        node("Transpose", "a", "b", perm=[0, 3, 1, 2]),
        node("Relu", "b", "restored"),
    )
    counts = operator_counts(graph)
    assert (counts.total(), counts["Transpose"], counts["Conv"]) == (3, 2, 0)
