"""What kind of work an operator does."""

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
"""In the order in which they are shown. "layout change": the same values in another order of their
axes, or seen as another shape. "copy": parts put together, taken apart or repeated."""

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
        "InstanceNormalization",  # of ONNX Runtime's own form, which has it in LayerNorm's place
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
    """The kind of an operator of ONNX or of ONNX Runtime's own.

    Args:
        operator: its type.
        stands_for: type of the operator of the exported graph that a runtime has replaced by it.
            GELU, for one, may be taken apart into nine operators on elements; these are GELU.
    """
    kind = _KIND_OF.get(operator, "other")
    if kind == "elementwise" and stands_for is not None:
        return _KIND_OF.get(stands_for, "other")
    return kind


def kind_of_name(name: str) -> str:
    """The kind of a node by its name, whose end is its operator: `stages/0/skip/0/own/Gemm_0`.

    Nodes of the image form are named after what they are for, and are "other".
    """
    operator = re.search(r"(?:^|/)([A-Za-z]+)_\d+$", name)
    return kind_of(operator[1]) if operator else "other"


PRODUCTS = ("matrix product", "convolution")

MOVES = frozenset({"layout change", "copy", "cast"})
"""Kinds that compute nothing: values in another order, another place or another type."""


@dataclass(frozen=True)
class Source:
    """What executed work belongs to, and its kind; `place` is None if that cannot be known."""

    place: Place | None
    kind: str


def strongest(kinds: list[str], *, generated: bool = False) -> str:
    """The kind of a layer in which a runtime has fused several operators: what it is built around.

    A product takes the operators on elements around it along, and not the other way round. In the
    order of `KINDS`: LayerNorm and GELU in one are LayerNorm.

    Args:
        kinds: of the operators.
        generated: whether its kernel was generated, and so computes no product: what it has of one
            is the sum with the bias.
    """
    if generated:
        kinds = ["elementwise" if kind in PRODUCTS else kind for kind in kinds]
    return min(kinds, key=KINDS.index, default="other")
