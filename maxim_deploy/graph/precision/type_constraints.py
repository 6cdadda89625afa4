"""Inputs and outputs that share a node's precision, by the operator's schema."""

from __future__ import annotations

from functools import cache

import onnx
import onnx_ir as ir
from onnx.defs import OpSchema

from maxim_deploy.errors import ExportError
from maxim_deploy.spec.precision import LOW, PRECISIONS

FLOATS = tuple(ir.DataType(row.onnx) for row in PRECISIONS.values())
LOW_FLOATS = tuple(ir.DataType(row.onnx) for row in LOW.values())


def require_types(graph: ir.Graph) -> None:
    """Check that the type of every tensor is known.

    Raises:
        ExportError: an output has no type; the message names its node.
    """
    for node in graph:
        if any(value.dtype is None and value.name for value in node.outputs):
            raise ExportError(f"{node.name} has an output without a type: infer shapes first")


def is_float(node: ir.Node) -> bool:
    """Whether a node computes in floating point, by its first output."""
    return node.outputs[0].dtype in FLOATS


def is_border(node: ir.Node) -> bool:
    """Whether a node is a Cast from float to float."""
    source = node.inputs[0] if node.inputs else None
    return node.op_type == "Cast" and is_float(node) and source is not None and _floating(source)


def bound_inputs(node: ir.Node, opset: int) -> dict[int, ir.Value]:
    """Indices of the float inputs that must have the type of the node's first output.

    They share the type variable of the first output. Others may differ: the scales of Resize are
        always float32, and Shape reads any type.
    """
    schema = _schema(node, opset)
    variable = schema.outputs[0].type_str
    # The last formal input of a variadic operator, such as Concat, represents all further ones.
    return {
        position: value
        for position, value in enumerate(node.inputs)
        if value is not None
        and _floating(value)
        and schema.inputs[min(position, len(schema.inputs) - 1)].type_str == variable
    }


def bound_outputs(node: ir.Node, opset: int) -> list[ir.Value]:
    """Outputs with the type of the first: all outputs of Split, but not LayerNorm's mean."""
    formal = _schema(node, opset).outputs
    return [
        value
        for position, value in enumerate(node.outputs)
        if formal[min(position, len(formal) - 1)].type_str == formal[0].type_str
    ]


def check_supported(node: ir.Node, opset: int, low: ir.DataType) -> None:
    """Check that an operator supports a low precision.

    Raises:
        ExportError: it does not, so the table must make the node an island.
    """
    schema = _schema(node, opset)
    variable = schema.outputs[0].type_str
    allowed = next(
        (c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == variable),
        [variable],
    )
    if f"tensor({type_name(low)})" not in allowed:
        raise ExportError(
            f"{node.name}: {node.op_type} does not support {type_name(low)} at opset {opset}; "
            "make it float32 in the precision table"
        )


def insert_behind(graph: ir.Graph, value: ir.Value, *nodes: ir.Node) -> None:
    """Insert nodes right after the producer of a value, or first in the graph if it is an input."""
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    else:
        graph.insert_before(graph[0], nodes)


def type_name(dtype: ir.DataType) -> str:
    """The type's name in decision tables, such as "float32"."""
    return str(dtype.numpy().name)


def retype(value: ir.Value, dtype: ir.DataType) -> None:
    """Give a value another element type. A new type object is needed: clones share them."""
    value.type = ir.TensorType(dtype)


def _floating(value: ir.Value) -> bool:
    return value.dtype in FLOATS


def _schema(node: ir.Node, opset: int) -> OpSchema:
    try:
        return _schema_of(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError as error:
        raise ExportError(
            f"{node.name}: there is no operator {node.domain}::{node.op_type} at opset {opset}; "
            "only standard ONNX operators can change their precision"
        ) from error


@cache
def _schema_of(op_type: str, opset: int, domain: str) -> OpSchema:
    return onnx.defs.get_schema(op_type, opset, domain)
