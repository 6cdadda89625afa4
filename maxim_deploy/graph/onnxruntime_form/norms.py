"""Replace LayerNormalization by InstanceNormalization, which parallelises better.

    LayerNormalization(x)  ->  Reshape(InstanceNormalization(Reshape(x, [-1, 64, C])), shape of x)

`x` has C channels last, and each row is normalised by its own mean and deviation.
InstanceNormalization does this for each channel of each image, so the rows become 64 "channels" of
"images" with C positions. Both use the biased variance and add epsilon to it. The number of rows is
a multiple of 64: it is a number of pixels at 1/8 or more of sides that are multiples of 64.

LayerNormalization scales and shifts columns, InstanceNormalization rows. Norms with scale or shift
would need two further passes over the tensor, so they are left unchanged.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from maxim_deploy.graph.onnxruntime_form.rule import Replacement, Rule
from maxim_deploy.spec.architecture import DEPTH, MULTIPLE_OF

ROWS = (MULTIPLE_OF // 2**DEPTH) ** 2
"""Pixels of the smallest map of the smallest image. The pixels of every map are a multiple of
it."""


def _refusal(norm: ir.Node) -> str | None:
    value, scale = norm.inputs[:2]
    if value is None or value.shape is None or not isinstance(value.shape[-1], int):
        return "the number of its channels is not known"
    if norm.attributes.get_int("axis", -1) not in (-1, value.shape.rank() - 1):
        return "it normalises more than the last axis"
    if any(extra.uses() for extra in norm.outputs[1:]):
        return "another node reads its mean or deviation"
    if len(norm.inputs) > 2 and not _is_all(norm.inputs[2], 0):
        return "it has a shift"
    if not _is_all(scale, 1):
        return "it has a scale"
    return None


def _is_all(value: ir.Value | None, number: float) -> bool:
    if value is None:
        return True
    return value.const_value is not None and bool((value.const_value.numpy() == number).all())


def _rewrite(norm: ir.Node) -> None:
    value = norm.inputs[0]
    assert value is not None and value.shape is not None
    channels, make = value.shape[-1], Replacement(norm)
    assert isinstance(channels, int)

    def shape_constant(name: str, *sizes: int) -> ir.Value:
        return make.constant(f"onnxruntime/{name}_{channels}", np.array(sizes, np.int64))

    one = make.constant("onnxruntime/one", np.ones(ROWS, np.float32))
    zero = make.constant("onnxruntime/zero", np.zeros(ROWS, np.float32))
    rows = make("Reshape", value, shape_constant("rows", -1, ROWS, channels))
    epsilon = norm.attributes.get_float("epsilon", 1e-5)
    normed = make("InstanceNormalization", rows, one, zero, epsilon=epsilon)
    rows.shape = normed.shape = ir.Shape([None, ROWS, channels])
    # Norms read tokens `[rows, C]` and blocks `[blocks, n, C]` only.
    inner = list(value.shape)[1:]
    assert all(isinstance(size, int) for size in inner)
    make.finish(
        make(
            "Reshape",
            normed,
            make.constant(
                f"onnxruntime/back_{'_'.join(map(str, inner))}", np.array([-1, *inner], np.int64)
            ),
        )
    )


RULE = Rule("LayerNormalization", _refusal, _rewrite)
