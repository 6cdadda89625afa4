"""Measure the largest values in a network, in float32 and with the memory of a plain run."""

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
"""A value may reach 1/8 of its type's range, as a reserve for other pictures. float16 ends at
65504, so the limit is 8188."""

Magnitudes = dict[str, float]


def magnitudes(model: ir.Model, pictures: Iterable[NDArray[np.float32]]) -> Magnitudes:
    """Largest absolute value of each float tensor of a float32 graph, over all pictures.

    Two reductions to a scalar follow each operator, so no tensor is kept.

    Args:
        model: a graph with the input `image`. It is not modified.
        pictures: float32 [N, 3, H, W] each, run one after the other.

    Returns:
        Magnitudes by name of the tensor, without weights.

    Raises:
        ExportError: a value is not finite (in float32, so no island helps), or there is no picture.
    """
    require_types(model.graph)
    watched = model.clone()
    values = _computed(watched)
    outputs = [name for value in values for name in _watch(watched.graph, value)]
    # One picture at a time: a batch would take the memory of all.
    session = open_session(watched)
    runs = [session.run(outputs, {"image": picture}) for picture in pictures]
    if not runs:
        raise ExportError("no picture was given to measure magnitudes on")
    largest = np.abs(np.asarray(runs, np.float32)).reshape(len(runs), -1, 2).max(axis=(0, 2))
    seen = {str(value.name): float(x) for value, x in zip(values, largest, strict=True)}
    _check_finite(seen)
    return _carried(watched, seen)


def seen_at(node: ir.Node, opset: int, seen: Magnitudes) -> float | None:
    """Largest magnitude that a node reads or writes; None if not measured."""
    values = (*bound_inputs(node, opset).values(), *bound_outputs(node, opset))
    return max((seen[value.name] for value in values if value.name in seen), default=None)


def with_safe_range(table: PrecisionTable, model: ir.Model, seen: Magnitudes) -> PrecisionTable:
    """Add an island for each node that reads or writes a value too large for the table's type.

    Args:
        table: is not modified.
        model: the float32 graph.
        seen: its magnitudes.
    """
    # The conversion refuses weights that are too large, so only computed values are checked here.
    limit = float(table.data_type.max) / SAFETY
    islands, opset = table.islands(model.graph), model.opset_imports[""]
    added = []
    for node in model.graph:
        reached = seen_at(node, opset, seen) if is_float(node) and node not in islands else None
        if reached is not None and reached > limit:
            reason = f"{table.low} is safe up to {limit:.5g} only, 1/{SAFETY} of its largest value"
            # Escaped: a pattern is a glob, and a node's name may have brackets.
            name = glob.escape(str(node.name))
            # Not the magnitude itself: its last digits differ between machines.
            added.append(Decision(name, "float32", reason))
    return PrecisionTable(table.low, (*table.decisions, *added))


def _computed(model: ir.Model) -> list[ir.Value]:
    """Float tensors that an operator computes. Moved tensors keep their magnitude."""
    nodes = [node for node in model.graph if is_float(node) and node.op_type not in MOVES]
    inputs = [value for value in model.graph.inputs if value.dtype in FLOATS]
    opset = model.opset_imports[""]
    return inputs + [value for node in nodes for value in bound_outputs(node, opset)]


def _watch(graph: ir.Graph, value: ir.Value) -> list[str]:
    """Add two scalar outputs with the largest and smallest element of a tensor.

    Returns their names.

    They stand right after the producer, and sessions run nodes in this order. If all were reduced
    at the end of the run, every tensor would live until then (4.0 GB instead of 0.4 for the demo
    model).
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
    """Add the magnitudes of tensors that were only moved."""
    # The graph's order is topological, so sources are known first.
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
