"""The bias of spatial mixing in OpenVINO: it is added in the pass that multiplies by the gate.

A gated branch multiplies the positions of its tokens by a matrix, adds one value per position,
moves the tokens back to their places and multiplies them by the gate. OpenVINO 2026.4 reads and
writes the whole tensor once for the sum and once for the gate, because the move lies between them.
After the move, both are one pass. In blocks, the bias of the norm before the mixing joins them,
multiplied by the matrix: it is the same at all positions.

S-2 in float32 is 1.01 to 1.03 times as fast at 256x256 and 1.02 at 512x512 (two cores of a Xeon).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from maxim_deploy.machine import openvino as library
from maxim_deploy.runtime.openvino_layouts import sole_node, sole_source


def add_at_gates(model: Any) -> int:
    """Add the biases of mixing where the gates are, in place. Results change by rounding at most.

    Args:
        model: the `openvino.Model`, whose height and width are dynamic.

    Returns:
        How many gates were changed.
    """
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "Multiply"]
    changed = sum(map(_add_at_gate, products))
    if changed:
        model.validate_nodes_and_infer_types()
    return changed


def _add_at_gate(product: Any) -> bool:
    for end, gate in (product.input_values(), product.input_values()[::-1]):
        if (
            (flat := sole_node(end, "Reshape"))
            and (move := sole_source(flat, "Transpose"))
            and (split := sole_source(move, "Reshape"))
            and (total := sole_source(split, "Add"))
            and str(end.get_partial_shape()) == str(gate.get_partial_shape())
        ):
            break
    else:
        return False
    mixed, bias = _mixed_and_bias(total)
    places = split.get_output_partial_shape(0)
    if not mixed or not _keeps_positions_together(mixed.get_partial_shape(), places):
        return False
    operators = library.openvino().opset13
    order, special_zero = move.input_value(1), split.get_attributes()["special_zero"]
    # It has few values, all of them constant: OpenVINO computes them when it compiles.
    bias = _bias_of_tokens(mixed, bias)  # first: it looks for what else reads the mixing
    sizes = np.array([size.get_length() if size.is_static else 1 for size in places], np.int64)
    per_token = operators.transpose(operators.reshape(bias, sizes, special_zero=False), order)
    tokens = operators.transpose(
        operators.reshape(mixed, split.input_value(1), special_zero), order
    )
    gated = operators.multiply(
        operators.reshape(gate, operators.shape_of(tokens), special_zero=False),
        operators.add(tokens, per_token),
    )
    result = operators.reshape(gated, flat.input_value(1), flat.get_attributes()["special_zero"])
    result.set_friendly_name(product.get_friendly_name())
    product.output(0).replace(result.output(0))
    return True


def _mixed_and_bias(total: Any) -> tuple[Any, Any]:
    """The terms: `[positions, ...]` or `[regions, positions, channels]`, and one per position."""
    for mixed, bias in (total.input_values(), total.input_values()[::-1]):
        shape, added = mixed.get_partial_shape(), bias.get_partial_shape()
        if (
            (len(shape) == 2 or (len(shape) == 3 and shape[2].is_static))
            and shape.is_dynamic
            and shape[-2].is_static
            and added.is_static
            and [*added.to_shape()][-2:] == [shape[-2].get_length(), 1]
            and math.prod(added.to_shape()) == shape[-2].get_length()
        ):
            return mixed, bias
    return None, None


def _keeps_positions_together(mixed: Any, places: Any) -> bool:
    """Whether a reshape leaves the positions (and channels) as the only static axes."""
    static = [size.is_static for size in places]
    known = math.prod(size.get_length() for size in places if size.is_static)
    if len(mixed) == 2:
        return static == sorted(static, reverse=True) and known == mixed[0].get_length()
    return static == sorted(static) and known == mixed[1].get_length() * mixed[2].get_length()


def _bias_of_tokens(mixed: Any, bias: Any) -> Any:
    """`[positions, 1]`, or `[positions, channels]` with the bias of the norm before the mixing."""
    operators = library.openvino().opset13
    shape = mixed.get_partial_shape()
    positions = shape[-2].get_length()
    bias = operators.reshape(bias, np.array([positions, 1], np.int64), special_zero=False)
    if len(shape) == 2:
        return bias
    channels = shape[2].get_length()
    bias = operators.broadcast(bias, np.array([positions, channels], np.int64))
    norm = _norm_with_bias(mixed, channels)
    if not norm:
        return bias
    matrix, normalized, of_norm = norm
    mixed.get_node().input(1).replace_source_output(normalized)
    sums = operators.reduce_sum(matrix, np.array([1], np.int64), keep_dims=True)
    of_norm = operators.reshape(of_norm, np.array([1, channels], np.int64), special_zero=False)
    return operators.add(bias, operators.multiply(sums, of_norm))


def _norm_with_bias(mixed: Any, channels: int) -> tuple[Any, Any, Any] | None:
    """The matrix of a mixing, and what it multiplies: a tensor, and one value per channel."""
    mixing = sole_node(mixed, "MatMul")
    if not mixing or any(mixing.get_attributes()[f"transpose_{side}"] for side in "ab"):
        return None
    matrix, total = mixing.input_value(0), sole_node(mixing.input_value(1), "Add")
    if not total or len(matrix.get_partial_shape()) != 2:
        return None
    for normalized, bias in (total.input_values(), total.input_values()[::-1]):
        shape = bias.get_partial_shape()
        if (
            str(normalized.get_partial_shape()) == str(total.get_output_partial_shape(0))
            and shape.is_static
            and [*shape.to_shape()][-1:] == [channels]
            and math.prod(shape.to_shape()) == channels
        ):
            return matrix, normalized, bias
    return None
