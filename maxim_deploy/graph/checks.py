"""Checks that need no picture: is the file a valid ONNX graph of the form it claims?"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, ValueInfoProto

from maxim_deploy.errors import ExportError
from maxim_deploy.spec.architecture import MULTIPLE_OF


def check_graph(path: Path) -> None:
    """Check a graph of the `tensor` form, as it lies on disk with its weights.

    Raises:
        ExportError: not valid ONNX by the full checker (which infers every shape), or not float32
            `image` `[N, 3, 64h, 64w]` to `restored` of the same shape with N, h and w free.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is not valid ONNX: {error}") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    signature = {value.name: _dims(value) for value in (*graph.input, *graph.output)}
    image = signature.get("image")
    if set(signature) != {"image", "restored"} or signature["restored"] != image or not image:
        raise ExportError(
            f"{path.name} must take `image` to a `restored` of its shape: {signature}"
        )
    batch, channels, height, width = image
    sides = [isinstance(side, str) and str(MULTIPLE_OF) in side for side in (height, width)]
    if channels != 3 or not isinstance(batch, str) or not all(sides):
        raise ExportError(
            f"{path.name} must take [N, 3, {MULTIPLE_OF}h, {MULTIPLE_OF}w] with N, h and w free, "
            f"not {image}"
        )


def node_count(path: Path) -> int:
    """Number of nodes in a graph file."""
    return len(onnx.load(str(path), load_external_data=False).graph.node)


def _dims(value: ValueInfoProto) -> list[str | int]:
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        raise ExportError(f"{value.name} must be float32")
    return [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
