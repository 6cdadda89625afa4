"""Merge the bias of a matrix product into the GELU after it.

    Gelu(Gemm(A, B, b))  ->  FastGelu(MatMul(A, B), b)

Both compute `g(A B + b)` with `g(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`. FastGelu
is ONNX Runtime's own operator. It adds the bias to each block of the product while the block is in
the cache. Gemm first writes the bias to the whole result in one thread.
"""

from __future__ import annotations

import onnx_ir as ir

from maxim_deploy.graph.onnxruntime_form.products import refusal_of_matrix
from maxim_deploy.graph.onnxruntime_form.rule import Replacement, Rule

DOMAIN = "com.microsoft"
"""Domain of ONNX Runtime's own operators; version 1."""


def _refusal(gelu: ir.Node) -> str | None:
    value = gelu.inputs[0]
    gemm = value.producer() if value is not None else None
    if gelu.attributes.get_string("approximate", "none") != "tanh":
        return "it is the exact form, but FastGelu uses tanh"
    if gemm is None or gemm.op_type != "Gemm":
        return "it does not follow a Gemm"
    if len(gemm.outputs[0].uses()) != 1 or gemm.outputs[0].is_graph_output():
        return "another node reads the product without GELU"
    bias = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    if bias is None or not bias.is_initializer() or bias.shape is None or bias.shape.rank() != 1:
        return "FastGelu takes a bias of one number per column only"
    return refusal_of_matrix(gemm)


def _rewrite(gelu: ir.Node) -> None:
    value = gelu.inputs[0]
    gemm = value.producer() if value is not None else None
    assert gemm is not None
    rows, matrix, bias = gemm.inputs[:3]
    assert rows is not None and matrix is not None and bias is not None
    make = Replacement(gelu)
    product = make("MatMul", rows, matrix)
    product.shape = gelu.outputs[0].shape
    make.finish(make("FastGelu", product, bias, domain=DOMAIN), gemm)


RULE = Rule("Gelu", _refusal, _rewrite)
