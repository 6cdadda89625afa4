"""Check from the graph alone that a converted graph matches its table."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from maxim_deploy.errors import ExportError, some_of
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.graph.precision.type_constraints import (
    bound_inputs,
    bound_outputs,
    is_border,
    is_float,
    type_name,
)


def verify_types(model: ir.Model, table: PrecisionTable) -> None:
    """Check that islands are float32 and all other nodes are low precision.

    Types are inferred from inputs, weights and casts. Types stored in the graph are ignored.

    Raises:
        ExportError: the message names nodes of the wrong type, consecutive casts, inputs or outputs
            in low precision, or a LayerNormalization with low-precision statistics.
    """
    # The converter wrote these types, and it is what is being checked. Inference must find them
    # alone.
    proto = ir.to_proto(model)
    proto.graph.ClearField("value_info")
    try:
        proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"the {table.low} graph mixes types: {error}") from error
    fresh = ir.from_proto(proto)
    faults = list(_faults(fresh, table))
    if faults:
        raise ExportError(
            f"the {table.low} graph departs from its precision table: {some_of(faults, '; ')}"
        )


def _faults(model: ir.Model, table: PrecisionTable) -> Iterator[str]:
    graph, opset = model.graph, model.opset_imports[""]
    for value in (*graph.inputs, *graph.outputs):
        if value.dtype == table.data_type:
            yield f"{value.name} is {table.low}, but inputs and outputs must keep their type"
    islands = table.islands(graph)
    for node in graph:
        if is_border(node):
            source = node.inputs[0]
            before = source.producer() if source is not None else None
            if before is not None and is_border(before):
                yield f"{node.name} casts the result of the cast {before.name}"
        elif is_float(node):
            # Islands are searched in the converted graph: a role without nodes is an error.
            wanted = ir.DataType.FLOAT if node in islands else table.data_type
            yield from _wrong_types(node, opset, wanted)


def _wrong_types(node: ir.Node, opset: int, wanted: ir.DataType) -> Iterator[str]:
    values = (*bound_inputs(node, opset).values(), *bound_outputs(node, opset))
    wrong = sorted({str(value.name) for value in values if value.dtype != wanted})
    if wrong:
        yield f"{node.name} should be {type_name(wanted)}, but these are not: {', '.join(wrong)}"
    if node.op_type == "LayerNormalization" and node.attributes.get_int("stash_type", 1) != 1:
        yield f"{node.name} keeps its statistics in low precision (stash_type is not 1)"
