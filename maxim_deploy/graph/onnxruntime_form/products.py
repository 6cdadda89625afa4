"""Split a matrix product and its addend into two operators that use all threads.

    Gemm(A, B, C)  ->  Squeeze(Add(MatMul(A, B), Unsqueeze(C)))

ONNX Runtime's Gemm copies or broadcasts C to the whole result in the calling thread, and then
accumulates the product: `Y = C; Y += A B`. With two or more threads, MatMul and a parallel Add are
faster, most of all if the result exceeds the caches.

ONNX Runtime's optimizer `MatMulAddFusion` would fuse a MatMul and an Add into a Gemm again, if the
addend has at most two axes. So the addend gets a third axis in front, and the sum drops it. Neither
moves data, and the file needs no session options.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from maxim_deploy.graph.onnxruntime_form.rule import Replacement, Rule

_FUSED = ("Relu", "Sigmoid")
"""Activations that ONNX Runtime fuses into Gemm. Here they follow only the products of channel
attention, with one row per image, whose time does not matter."""


def refusal_of_matrix(gemm: ir.Node) -> str | None:
    """Why a Gemm is not `MatMul(A, B)` plus its addend, or None."""
    attributes = gemm.attributes
    for name, neutral in (("alpha", 1.0), ("beta", 1.0)):
        if attributes.get_float(name, 1.0) != neutral:
            return f"{name} is {attributes.get_float(name)}, not {neutral}"
    for name in ("transA", "transB"):
        if attributes.get_int(name, 0):
            return f"{name} is set"
    return None


def _refusal(gemm: ir.Node) -> str | None:
    addend = _addend(gemm)
    if addend is not None and (addend.shape is None or addend.shape.rank() > 2):
        return "the number of axes of its addend is not known"
    if any(node.op_type in _FUSED for node, _ in gemm.outputs[0].uses()):
        return "ONNX Runtime fuses it with the activation after it"
    return refusal_of_matrix(gemm)


def _addend(gemm: ir.Node) -> ir.Value | None:
    return gemm.inputs[2] if len(gemm.inputs) > 2 else None


def _rewrite(gemm: ir.Node) -> None:
    (left, right), addend = gemm.inputs[:2], _addend(gemm)
    assert left is not None and right is not None
    make, shape = Replacement(gemm), gemm.outputs[0].shape
    if addend is None:
        make.finish(make("MatMul", left, right))
        return
    assert addend.shape is not None
    front = make.constant("onnxruntime/front", np.array([0], np.int64))
    product = make("MatMul", left, right)
    product.shape = shape
    # `[N]` broadcasts to `[1, N]`, so it needs two axes in front to have three.
    count = 3 - addend.shape.rank()
    axes = make.constant(f"onnxruntime/front_{count}", np.arange(count, dtype=np.int64))
    deep = make("Unsqueeze", addend, axes)
    deep.shape = ir.Shape([*[1] * count, *addend.shape])
    total = make("Add", product, deep)
    total.shape = None if shape is None else ir.Shape([1, *shape])
    make.finish(make("Squeeze", total, front))


RULE = Rule("Gemm", _refusal, _rewrite)
