"""The bytes of the tiny graph."""

from __future__ import annotations

import pytest

from maxim_deploy.machine.tiny_graph import TINY_GRAPH


def test_the_bytes_are_the_graph_that_they_claim_to_be() -> None:
    onnx = pytest.importorskip("onnx")
    kernel = onnx.helper.make_tensor("kernel", 1, [3, 3, 1, 1], [0, 2, 0, 0, 0, 2, 2, 0, 0])
    nodes = [
        onnx.helper.make_node("Conv", ["image", "kernel"], ["mixed"]),
        onnx.helper.make_node("Add", ["image", "mixed"], ["restored"]),
    ]
    image, restored = (
        onnx.helper.make_tensor_value_info(name, 1, [1, 3, 4, 4]) for name in ("image", "restored")
    )
    graph = onnx.helper.make_graph(nodes, "tiny", [image], [restored], [kernel])
    model = onnx.helper.make_model(
        graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString(deterministic=True) == TINY_GRAPH
