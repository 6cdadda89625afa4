"""How large do the values of a network get? Measured in float32, at the memory of a plain run."""

from __future__ import annotations

import glob
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.precision.roles import MOVES
from maxim_deploy.graph.precision.session import open_session
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.graph.precision.type_constraints import (
    FLOATS,
    bound_inputs,
    bound_outputs,
    insert_behind,
    is_float,
    require_types,
)

SAFETY = 8
"""A value may reach this fraction of what its type can hold: other pictures than those measured
have this much room. float16 ends at 65504, so 8188 is the limit."""

Magnitudes = dict[str, float]


def magnitudes(model: ir.Model, pictures: Iterable[NDArray[np.float32]]) -> Magnitudes:
    """Largest absolute value of each float tensor of a float32 graph, over all pictures.

    Two reductions to a scalar are added behind each operator, so that no tensor is kept for it.

    Args:
        model: takes `image`; is not modified.
        pictures: each float32 [N, 3, H, W], run one after the other.

    Returns:
        By name of the tensor; weights are not among them.

    Raises:
        ExportError: a value is not finite (in float32, so no island can help), or no picture.
    """
    require_types(model.graph)
    watched = model.clone()
    values = _computed(watched)
    outputs = [name for value in values for name in _watch(watched.graph, value)]
    # One picture at a time: a batch of them would take the memory of all.
    session = open_session(watched)
    runs = [session.run(outputs, {"image": picture}) for picture in pictures]
    if not runs:
        raise ExportError("no picture was given to measure magnitudes on")
    largest = np.abs(np.asarray(runs, np.float32)).reshape(len(runs), -1, 2).max(axis=(0, 2))
    seen = {str(value.name): float(x) for value, x in zip(values, largest, strict=True)}
    _check_finite(seen)
    return _carried(watched, seen)


def seen_at(node: ir.Node, opset: int, seen: Magnitudes) -> float | None:
    """Largest magnitude among what a node reads and writes; None if it was not measured."""
    values = (*bound_inputs(node, opset).values(), *bound_outputs(node, opset))
    return max((seen[value.name] for value in values if value.name in seen), default=None)


def with_safe_range(table: PrecisionTable, model: ir.Model, seen: Magnitudes) -> PrecisionTable:
    """Add an island for each node that reads or writes a value too large for the table's type.

    Args:
        table: is not modified.
        model: the float32 graph.
        seen: its magnitudes.
    """
    # A weight too large is refused by the conversion, so that only computed values are judged here.
    limit = float(table.data_type.max) / SAFETY
    islands, opset = table.islands(model.graph), model.opset_imports[""]
    added = []
    for node in model.graph:
        reached = seen_at(node, opset, seen) if is_float(node) and node not in islands else None
        if reached is not None and reached > limit:
            reason = f"{table.low} is safe up to {limit:.5g} only, 1/{SAFETY} of its largest value"
            # A pattern is a glob, and a node's name may have brackets.
            name = glob.escape(str(node.name))
            # Not the magnitude itself: it differs in its last digits from machine to machine.
            added.append(Decision(name, "float32", reason))
    return PrecisionTable(table.low, (*table.decisions, *added))


def _computed(model: ir.Model) -> list[ir.Value]:
    """Float tensors that an operator computes; those that it only moves are as large as before."""
    nodes = [node for node in model.graph if is_float(node) and node.op_type not in MOVES]
    inputs = [value for value in model.graph.inputs if value.dtype in FLOATS]
    opset = model.opset_imports[""]
    return inputs + [value for node in nodes for value in bound_outputs(node, opset)]


def _watch(graph: ir.Graph, value: ir.Value) -> list[str]:
    """Two new scalar outputs, the largest and the smallest element of a tensor; their names.

    They stand right behind the producer, and sessions run nodes in this order: reduced at the end
    of the run, every tensor would have to live until then (4.0 GB instead of 0.4 for the demo).
    """
    names = [f"{operator} of {value.name}" for operator in ("ReduceMax", "ReduceMin")]
    for name in names:
        node = ir.node(name.split()[0], [value], {"keepdims": 0}, name=name)
        node.outputs[0].name = name
        node.outputs[0].type, node.outputs[0].shape = value.type, ir.Shape([])
        insert_behind(graph, value, node)
        graph.outputs.append(node.outputs[0])
    return names


def _check_finite(seen: Magnitudes) -> None:
    for name, magnitude in seen.items():
        if not np.isfinite(magnitude):
            raise ExportError(f"{name} is not finite in float32 already, so no island can help")


def _carried(model: ir.Model, seen: Magnitudes) -> Magnitudes:
    """Complete the magnitudes by the tensors that were only moved."""
    # The order of the graph is topological, so that sources are known before what is moved.
    seen = dict(seen)
    for node in model.graph:
        if is_float(node) and node.op_type in MOVES:
            sources = bound_inputs(node, model.opset_imports[""]).values()
            largest = max((_largest(value, seen) for value in sources), default=0.0)
            seen |= {str(value.name): largest for value in node.outputs}
    return seen


def _largest(value: ir.Value, seen: Magnitudes) -> float:
    if value.const_value is not None:
        return float(np.abs(value.const_value.numpy()).max(initial=0))
    return seen[str(value.name)]
