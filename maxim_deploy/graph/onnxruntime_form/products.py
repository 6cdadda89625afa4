"""A matrix product and its addend become two operators, which use all threads.

    Gemm(A, B, C)  ->  Squeeze(Add(MatMul(A, B), Unsqueeze(C)))

ONNX Runtime's Gemm copies or broadcasts C to the whole result, in the calling thread, and then
multiplies on top of it: `Y = C; Y += A B`. With two threads or more, and most of all where the
result outgrows the caches, MatMul and an Add of all threads take less time than that.

ONNX Runtime makes a Gemm of a MatMul and an Add again (its optimizer `MatMulAddFusion`). That
optimizer looks for an addend of at most two axes. So the addend gets a third one in front, and the
sum loses it; neither moves data. The file needs no session options that way.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from maxim_deploy.graph.onnxruntime_form.rule import Replacement, Rule

_FUSED = ("Relu", "Sigmoid")
"""Activations that ONNX Runtime does inside Gemm. Here they follow products of one row per image,
of the channel attention, whose time does not count."""


def refusal_of_matrix(gemm: ir.Node) -> str | None:
    """Why a Gemm is no `MatMul(A, B)` plus its addend, or None."""
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
        return "ONNX Runtime fuses it with the activation behind it"
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
    # `[N]` becomes `[1, N]` by broadcasting, of which two axes in front are three.
    count = 3 - addend.shape.rank()
    axes = make.constant(f"onnxruntime/front_{count}", np.arange(count, dtype=np.int64))
    deep = make("Unsqueeze", addend, axes)
    deep.shape = ir.Shape([*[1] * count, *addend.shape])
    total = make("Add", product, deep)
    total.shape = None if shape is None else ir.Shape([1, *shape])
    make.finish(make("Squeeze", total, front))


RULE = Rule("Gemm", _refusal, _rewrite)
