"""Convert a float32 graph into a strongly typed low-precision graph by a decision table.

Every node outside the table's islands has float inputs and outputs in the low precision. A Cast
stands exactly where a value crosses the border of an island, once per value. Inputs, outputs and
all values that are not float32 keep their types.

bfloat16 raises the opset to 22, the first in which Conv, ConvTranspose, AveragePool and
GlobalAveragePool support it. Nodes stay unchanged: between 20 and 22 no operator of this network
changed the meaning of its attributes, except AveragePool with `ceil_mode` 1, which is refused.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir as ir
from onnx.helper import find_min_ir_version_for, make_opsetid
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.graph.precision.type_constraints import (
    LOW_FLOATS,
    bound_inputs,
    bound_outputs,
    check_supported,
    insert_behind,
    is_float,
    retype,
    type_name,
)

Uses = dict[tuple[ir.Value, ir.DataType], list[tuple[ir.Node, int]]]


def low_precision(model: ir.Model, table: PrecisionTable) -> ir.Model:
    """Convert a float32 graph.

    Args:
        model: the float32 graph. It is not modified.
        table: the decisions about nodes that stay float32.

    Returns:
        A new graph. Weights keep their names, so graphs of one network share them. A weight that
        islands also need has a copy, `<name>.float32`.

    Raises:
        ExportError: a decision matches nothing, an operator does not exist in the low precision,
            or a weight is too large for it (the message names it).
    """
    result = _typed_copy(model)
    # Before searching islands: the types of an operator depend on the opset.
    opset = _raise_opset(result, table.precision.opset)
    islands = table.islands(result.graph)
    for node in result.graph:
        if is_float(node) and node not in islands:
            check_supported(node, opset, table.data_type)
            _lower(node, opset, table.data_type)
    # A computed value needs a Cast at run time. A weight is converted here, once.
    for (value, wanted), uses in _crossings(result.graph, opset).items():
        if not value.is_initializer():
            _replace(uses, _cast_of(result.graph, value, wanted))
    _convert_initializers(result.graph, opset, table.data_type)
    _restore_outputs(result.graph)
    return result


def _typed_copy(model: ir.Model) -> ir.Model:
    result = model.clone()
    # As initializers, constants are converted like weights. A Constant node would keep its own
    # type.
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(result)
    if any(value.dtype is None for node in result.graph for value in node.outputs):
        ShapeInferencePass()(result)
    return result


def _raise_opset(model: ir.Model, wanted: int) -> int:
    opset = model.opset_imports[""]
    if opset >= wanted:
        return opset
    for node in model.graph:
        if node.op_type == "AveragePool" and node.attributes.get_int("ceil_mode", 0) != 0:
            raise ExportError(f"{node.name}: AveragePool with ceil_mode differs at opset {wanted}")
    model.opset_imports[""] = wanted
    # Readers refuse an opset that is newer than the model's file format.
    needed = find_min_ir_version_for([make_opsetid("", wanted)])
    model.ir_version = max(model.ir_version, needed)
    return wanted


def _lower(node: ir.Node, opset: int, low: ir.DataType) -> None:
    for value in bound_outputs(node, opset):
        retype(value, low)
    # A Cast has its result's type in an attribute, which would contradict the value's type.
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", low)


def _crossings(graph: ir.Graph, opset: int) -> Uses:
    """Uses of values in a type that the value does not have."""
    uses: Uses = defaultdict(list)
    for node in graph:
        if is_float(node):
            wanted = node.outputs[0].dtype
            assert wanted is not None
            for position, value in bound_inputs(node, opset).items():
                if value.dtype != wanted:
                    uses[value, wanted].append((node, position))
    return uses


def _replace(uses: list[tuple[ir.Node, int]], value: ir.Value) -> None:
    for node, position in uses:
        node.replace_input_with(position, value)


def _cast_of(graph: ir.Graph, value: ir.Value, wanted: ir.DataType) -> ir.Value:
    """A new Cast of `value`, right after its producer."""
    producer = value.producer()
    owner = producer.name if producer is not None else value.name
    # There, one Cast serves all users, and the wide value may be freed at once.
    cast = ir.node("Cast", [value], {"to": wanted}, name=f"{owner}/Cast_{value.index() or 0}")
    out = cast.outputs[0]
    out.name, out.shape = f"{value.name}.{type_name(wanted)}", value.shape
    retype(out, wanted)
    insert_behind(graph, value, cast)
    return out


def _convert_initializers(graph: ir.Graph, opset: int, low: ir.DataType) -> None:
    crossings = _crossings(graph, opset)
    for (value, _), uses in crossings.items():
        # Islands read the exact weight. A second copy costs less than a Cast in each run.
        others = [use for use in value.uses() if tuple(use) not in uses]
        if others:
            kept = ir.val(f"{value.name}.float32", const_value=value.const_value)
            graph.register_initializer(kept)
            _replace([(use.node, use.idx) for use in others], kept)
        value.const_value = _rounded(value, low)
        retype(value, low)


def _rounded(value: ir.Value, low: ir.DataType) -> ir.TensorProtocol:
    assert value.const_value is not None
    array = value.const_value.numpy()
    # NumPy only warns about a weight that becomes infinite. Here it is an error with the weight's
    # name.
    with np.errstate(over="ignore"):
        rounded = array.astype(low.numpy())
    lost = np.isfinite(array) & ~np.isfinite(rounded.astype(np.float32))
    if lost.any():
        raise ExportError(
            f"weight {value.name} reaches {np.abs(array[lost]).max():.6g}, too large for "
            f"{type_name(low)}; make the nodes that use it float32 in the precision table"
        )
    return ir.Tensor(rounded, dtype=low, name=value.name)


def _restore_outputs(graph: ir.Graph) -> None:
    """Restore float32 and the name of outputs that became low precision."""
    # Applications bind the output by name and type.
    for position, value in enumerate(graph.outputs):
        if value.dtype in LOW_FLOATS:
            name, value.name = value.name, f"{value.name}.{type_name(value.dtype)}"
            out = _cast_of(graph, value, ir.DataType.FLOAT)
            out.name = name
            graph.outputs[position] = out
