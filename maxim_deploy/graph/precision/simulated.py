"""Simulated precision: a float32 graph that rounds like a low-precision one.

It runs on machines that cannot run the low-precision graph. Every low-precision tensor is a float32
tensor that is cast to the low precision and back, and every weight has its rounded value. So it
shows the loss of storage in low precision. Sums inside an operator are float32; a GPU that
accumulates in lower precision loses more.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from maxim_deploy.graph.precision.roles import MOVES
from maxim_deploy.graph.precision.type_constraints import LOW_FLOATS, insert_behind, retype


def simulated_in_float32(model: ir.Model) -> ir.Model:
    """A float32 graph that rounds like a low-precision one, which is not modified."""
    simulated = model.clone()
    # Weights are already rounded in the low-precision graph. Widening them is exact.
    for value in simulated.graph.initializers.values():
        if value.dtype in LOW_FLOATS and value.const_value is not None:
            array = value.const_value.numpy().astype(np.float32)
            value.const_value = ir.Tensor(array, name=value.name)
            retype(value, ir.DataType.FLOAT)
    for node in list(simulated.graph):
        for value in node.outputs:
            if value.dtype in LOW_FLOATS:
                _widen(simulated.graph, node, value)
    return simulated


def _widen(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Make one output float32, rounded where its operator computes it."""
    low = value.dtype
    assert low is not None
    retype(value, ir.DataType.FLOAT)
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    # Moved values were rounded where they were computed.
    if node.op_type in MOVES:
        return
    down = ir.node("Cast", [value], {"to": low}, name=f"{value.name}/round_down")
    back = ir.node("Cast", down.outputs, {"to": ir.DataType.FLOAT}, name=f"{value.name}/round_back")
    for cast, dtype in ((down, low), (back, ir.DataType.FLOAT)):
        cast.outputs[0].name = cast.name
        cast.outputs[0].shape = value.shape
        retype(cast.outputs[0], dtype)
    # All users read the rounded value except `down`, which must read the original.
    value.replace_all_uses_with(back.outputs[0])
    down.replace_input_with(0, value)
    insert_behind(graph, value, down, back)
