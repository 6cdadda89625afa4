"""The kind of work that an operator does."""

from __future__ import annotations

import re
from dataclasses import dataclass

from maxim_deploy.spec.places import Place

KINDS = (
    "matrix product",
    "convolution",
    "LayerNorm",
    "GELU",
    "elementwise",
    "layout change",
    "copy",
    "resize",
    "mean",
    "cast",
    "other",
)
"""All kinds, in the order of display. "layout change" permutes axes or reshapes. "copy" joins,
splits or repeats tensors."""

# fmt: off
_OPERATORS = {
    "matrix product": [
        "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "GemmFloat8", "TransposeMatMul",
    ],
    "convolution": [
        "Conv", "ConvTranspose", "FusedConv", "NhwcConv", "NhwcFusedConv",
    ],
    "LayerNorm": [
        "LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization",
        "InstanceNormalization",  # ONNX Runtime's own form uses it in place of LayerNorm
    ],
    "GELU": ["Gelu", "FastGelu", "BiasGelu", "QuickGelu"],
    "elementwise": [
        "Abs", "Add", "And", "Ceil", "Clip", "Div", "Equal", "Erf", "Exp", "Floor", "Greater",
        "LeakyRelu", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "QuickSigmoid",
        "Relu", "Round", "Sigmoid", "Sqrt", "Sub", "Sum", "Tanh", "Where",
    ],
    "layout change": [
        "Flatten", "ReorderInput", "ReorderOutput", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
    ],
    "copy": [
        "Concat", "Expand", "Gather", "Identity", "MemcpyFromHost", "MemcpyToHost", "Pad", "Slice",
        "Split", "Tile",
    ],
    "resize": ["Resize", "Upsample"],
    "mean": ["AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"],
    "cast": ["Cast"],
}
# fmt: on
_KIND_OF = {operator: kind for kind, operators in _OPERATORS.items() for operator in operators}


def kind_of(operator: str, stands_for: str | None = None) -> str:
    """The kind of an operator of ONNX or ONNX Runtime.

    Args:
        operator: its type.
        stands_for: type of the exported operator that it replaces. For example, a runtime may split
            GELU into nine element-wise operators, and all nine count as GELU.
    """
    kind = _KIND_OF.get(operator, "other")
    if kind == "elementwise" and stands_for is not None:
        return _KIND_OF.get(stands_for, "other")
    return kind


def kind_of_name(name: str) -> str:
    """The kind of a node by its name, which ends in the operator: `stages/0/skip/0/own/Gemm_0`.

    Nodes of the image form are named after their purpose and count as "other".
    """
    operator = re.search(r"(?:^|/)([A-Za-z]+)_\d+$", name)
    return kind_of(operator[1]) if operator else "other"


PRODUCTS = ("matrix product", "convolution")

MOVES = frozenset({"layout change", "copy", "cast"})
"""Kinds that compute nothing: they reorder, move or convert values."""


@dataclass(frozen=True)
class Source:
    """The place and kind of executed work; `place` is None if unknown."""

    place: Place | None
    kind: str


def strongest(kinds: list[str], *, generated: bool = False) -> str:
    """The kind of a layer made by fusing several operators: that of its main operator.

    A product dominates the element-wise operators fused with it. Otherwise the order of `KINDS`
    decides: LayerNorm with GELU is LayerNorm.

    Args:
        kinds: kinds of the operators.
        generated: whether its kernel was generated. A generated kernel computes no product, only
            the sum with its bias.
    """
    if generated:
        kinds = ["elementwise" if kind in PRODUCTS else kind for kind in kinds]
    return min(kinds, key=KINDS.index, default="other")
