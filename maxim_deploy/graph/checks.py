"""Checks without pictures: whether a file is a valid ONNX graph of its form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import ValueInfoProto

from maxim_deploy.errors import ExportError
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.precision import FULL, PRECISIONS

TENSOR_SHAPE = f"[N, 3, {MULTIPLE_OF}h, {MULTIPLE_OF}w]"


def check_graph(path: Path, io: str, io_type: str = FULL) -> None:
    """Check a graph on disk with its weights.

    Args:
        path: the ONNX file.
        io: the expected form; see `spec.manifest.GraphEntry`.
        io_type: type of the planar form's input and output, a precision's name.

    Raises:
        ExportError: the full checker, which infers every shape, rejects it; or its input and output
            are not those of the form with free batch and sides.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is not valid ONNX: {error}") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    wanted = _FORMS[io](PRECISIONS[io_type].type)
    values = [*graph.input, *graph.output]
    found = {value.name: _typed_shape(value) for value in values}
    source, result = wanted.names
    if len(values) != 2 or set(found) != {source, result} or found[source] != found[result]:
        raise ExportError(f"{path.name} must take `{source}` to a `{result}` like it: {found}")
    kind, shape = found[source]
    free = [dim for axis, dim in enumerate(shape) if axis != wanted.channel_axis]
    sides = shape[2:] if wanted.channel_axis == 1 else shape[1:3]
    if (
        (kind, len(shape)) != (wanted.type, 4)
        or shape[wanted.channel_axis] != 3
        or not all(isinstance(dim, str) for dim in free)
        or (wanted.multiples and not all(str(MULTIPLE_OF) in str(side) for side in sides))
    ):
        raise ExportError(
            f"{path.name} must take {wanted.type} {wanted.shape} with N and both sides free, "
            f"not {kind} {shape}"
        )


@dataclass(frozen=True)
class _Form:
    """Input and output of a form. Both have the same type and shape."""

    names: tuple[str, str]
    type: str
    shape: str
    channel_axis: int = 1
    multiples: bool = False


_FORMS: dict[str, Callable[[str], _Form]] = {
    "tensor": lambda _: _Form(("image", "restored"), "float32", TENSOR_SHAPE, multiples=True),
    "image": lambda _: _Form(("image", "restored"), "uint8", "[N, H, W, 3]", channel_axis=3),
    "planar": lambda kind: _Form(("input", "output"), kind, "[N, 3, H, W]"),
}
"""The input and output of a form. `io_type` is the type of the planar form."""


def check_no_example_sizes(model: ir.Model, example: tuple[int, int, int, int]) -> None:
    """Search a graph's integers for sizes of the traced example.

    An ONNX graph has no guards. If a tracer treats a size as a constant, the graph is wrong at some
    or all other sizes.

    Args:
        model: the traced graph.
        example: `[N, C, H, W]` of the example. No weight may have one of its sizes.

    Raises:
        ExportError: an integer constant equals a size; the message names value and tensor.
    """
    batch, _, height, width = example
    sides = {side // 2**k for side in (height, width) for k in range(8) if side % 2**k == 0}
    weights = {
        size
        for value in model.graph.initializers.values()
        if (tensor := value.const_value) is not None and tensor.dtype.is_floating_point()
        for size in tensor.shape.numpy()
    }
    suspects = ({batch} | sides) - weights - {1}
    for name, values in _integer_constants(model):
        found = suspects & {abs(int(value)) for value in values.flat}
        if found:
            raise ExportError(
                f"the traced example's size {min(found)} is baked into the constant {name!r}; "
                "the graph would be wrong at other sizes"
            )


def _integer_constants(model: ir.Model) -> Iterator[tuple[str, NDArray[np.int64]]]:
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == ir.DataType.INT64:
            yield value.name or "", value.const_value.numpy()
    for node in model.graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR:
                tensor = attribute.as_tensor()
                if tensor.dtype == ir.DataType.INT64:
                    yield node.name or "", tensor.numpy()


def operator_counts(graph: Path) -> Counter[str]:
    """Number of nodes of each type."""
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return Counter(node.op_type for node in nodes)


def _typed_shape(value: ValueInfoProto) -> tuple[str, list[str | int]]:
    tensor = value.type.tensor_type
    kind = ir.DataType(tensor.elem_type).numpy().name
    return kind, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
