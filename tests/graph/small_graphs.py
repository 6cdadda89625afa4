"""Graphs small enough to work out by hand: `image` to `restored`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1, 3, 64, 64)
UNIT = 3 * 64 * 64 * 4
"""Bytes of a tensor as large as the input."""


def node(kind: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    """A node named after its first output."""
    name = outputs.split()[0]
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name, **attributes)


def write(
    path: Path, *nodes: onnx.NodeProto, outputs: str = "restored", **constants: object
) -> Path:
    free = [None, 3, None, None]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, free)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path
