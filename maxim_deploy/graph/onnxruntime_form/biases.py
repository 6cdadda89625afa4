"""Add the bias of a chain of products after the chain.

    Gemm(A2, B2, Gemm(A1, B1, b))  ->  Add(Gemm(A2, B2, Gemm(A1, B1)), b)

Both are `A1 B1 + A2 B2 + b`. A product and its sum with the bias are two tensors. At the start of a
chain the inputs of all its products are alive, and another tensor would raise the peak memory of a
run. At the end the inputs are free. The session must run nodes in the file's order for this, see
`machine.onnxruntime`.
"""

from __future__ import annotations

import onnx_ir as ir

from maxim_deploy.graph.onnxruntime_form.products import refusal_of_matrix
from maxim_deploy.graph.onnxruntime_form.rule import Replacement, Rule

_ADDEND = 2
"""Index of Gemm's input C."""


def _next(gemm: ir.Node) -> ir.Node | None:
    """The Gemm that adds to this one's result, if it is the only reader."""
    output = gemm.outputs[0]
    if len(uses := output.uses()) != 1 or output.is_graph_output():
        return None
    ((node, position),) = uses
    is_chained = node.op_type == "Gemm" and position == _ADDEND
    return node if is_chained and refusal_of_matrix(node) is None else None


def _refusal(gemm: ir.Node) -> str | None:
    bias = gemm.inputs[_ADDEND] if len(gemm.inputs) > _ADDEND else None
    if bias is None or not bias.is_initializer() or bias.shape is None or bias.shape.rank() != 1:
        return "it has no bias of one number per column"
    if _next(gemm) is None:
        return "no other product adds to it"
    return refusal_of_matrix(gemm)


def _rewrite(gemm: ir.Node) -> None:
    bias, last = gemm.inputs[_ADDEND], gemm
    assert bias is not None
    while (following := _next(last)) is not None:
        last = following
    gemm.replace_input_with(_ADDEND, None)
    total, make = last.outputs[0], Replacement(last)
    make.append(make("Add", total, bias))


RULE = Rule("Gemm", _refusal, _rewrite)
