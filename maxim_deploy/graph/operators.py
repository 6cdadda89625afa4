"""Find operators that TensorRT would refuse, without TensorRT."""

from __future__ import annotations

from collections import defaultdict

import onnx_ir as ir

from maxim_deploy.errors import ExportError, some_of

_NAMES = (
    "Conv ConvTranspose MatMul Gemm Einsum "
    "Gelu Relu LeakyRelu Sigmoid HardSigmoid Tanh Softmax Erf "
    "LayerNormalization ReduceMean ReduceSum ReduceSumSquare ReduceMax ReduceMin ReduceProd "
    "GlobalAveragePool AveragePool Resize Pad "
    "Add Sub Mul Div Mod Neg Abs Sign Min Max Sum Mean Pow Exp Log Sqrt Reciprocal "
    "Floor Ceil Round Clip Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Where "
    "Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Gather Expand Tile "
    "DepthToSpace SpaceToDepth Shape Size Range Constant ConstantOfShape Cast Identity"
)
TENSORRT_OPERATORS = frozenset(_NAMES.split())
"""The ONNX operators, up to opset 22, that networks of convolutions and matrix products may need
and that TensorRT's parser accepts in float32, float16 and bfloat16 (or int64, for sizes).

Source: the operator support matrix of NVIDIA's parser, `docs/operators.md` of onnx-tensorrt, at
TensorRT 10.15; `OnnxParser.supports_operator` of TensorRT for RTX 1.7 agrees."""

_RESIZE_CHOICES = {
    "mode": ("nearest", "linear"),
    "keep_aspect_ratio_policy": ("stretch",),
    "coordinate_transformation_mode": (
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    ),
}
"""Settings of Resize that the same matrix allows."""


def check_operators(model: ir.Model) -> None:
    """Raise an error for a graph that TensorRT would refuse.

    Raises:
        ExportError: the message lists each operator of `refused_operators` with its nodes.
    """
    if refused := refused_operators(model):
        listing = "; ".join(f"{what}: {some_of(nodes)}" for what, nodes in refused.items())
        raise ExportError(
            f"TensorRT's parser does not accept these operators: {listing}. The graph runs in "
            "ONNX Runtime only; replace them by operators of maxim_deploy.graph.operators"
        )


def refused_operators(model: ir.Model) -> dict[str, list[str]]:
    """Names of nodes that TensorRT would refuse, by operator. Subgraphs are included.

    Operators of other domains are named `domain::operator`. A refused setting is named too, as in
    `Resize (antialias=1)`. Tensor types are not checked; TensorRT's parser does that.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for node in model.graph.all_nodes():
        if refusal := _refusal(node):
            found[refusal].append(node.name or node.outputs[0].name or "an unnamed node")
    return dict(found)


def _refusal(node: ir.Node) -> str | None:
    """The reason for TensorRT to refuse a node, or None."""
    if node.domain:
        return f"{node.domain}::{node.op_type}"
    if node.op_type not in TENSORRT_OPERATORS:
        return node.op_type
    if node.op_type == "LayerNormalization" and any(extra.name for extra in node.outputs[1:]):
        return "LayerNormalization (with mean or deviation as outputs)"
    if node.op_type != "Resize":
        return None
    if node.attributes.get_int("antialias", 0):
        return "Resize (antialias=1)"
    for name, choices in _RESIZE_CHOICES.items():
        chosen = node.attributes.get_string(name, choices[0])
        if chosen not in choices:
            return f"Resize ({name}={chosen})"
    return None
