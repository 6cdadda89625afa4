"""Layouts of tensors in OpenVINO: what would move a whole map is computed on its tokens.

Convolutions have maps `[N, C, H, W]`, all else has tokens `[N H W, C]`; a transposition and a
reshape lead from one to the other. OpenVINO stores a map with its channels last, so they need to
move nothing. But OpenVINO 2026.4 moves the whole tensor, twice, in two cases:

- between the two, channel attention multiplies `[N, H, W, C]` by weights `[N, 1, 1, C]`, and
  OpenVINO prefers channels last for all products of four dimensions;
- the map is the sum of a convolution and another map, which the convolution adds in place.

A tensor of tokens has one layout only. S-2 in float32 is 1.04 times as fast at 256x256, 1.08 at
512x512 and 1.12 at 1024x1024 (two cores of a Xeon).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from maxim_deploy.machine import openvino as library

LAYOUTS = 1
"""Version of these changes. A compiled form depends on it."""

_CHANNELS_LAST = (0, 2, 3, 1)


def compute_on_tokens(model: Any) -> int:
    """Multiply and add tokens rather than maps, in place. Results change by rounding at most.

    Args:
        model: the `openvino.Model`, whose height and width are dynamic.

    Returns:
        How many products and sums were changed.
    """
    flat = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Reshape" and len(node.get_output_partial_shape(0)) == 2
    ]
    changed = sum(_weigh_tokens(reshape) or _add_tokens(reshape) for reshape in flat)
    if changed:
        model.validate_nodes_and_infer_types()
    return changed


def _weigh_tokens(reshape: Any) -> bool:
    """Multiply tokens by channel weights."""
    product = _source(reshape, "Multiply")
    if not product:
        return False
    for map_, weights in (product.input_values(), product.input_values()[::-1]):
        channels, shape = map_.get_partial_shape()[-1], weights.get_partial_shape()
        if (
            _is_channels_last(map_.get_node())
            and len(map_.get_target_inputs()) == 1
            and channels.is_static
            and [str(size) for size in shape][1:] == ["1", "1", str(channels)]
        ):
            break
    else:
        return False
    operators = library.openvino().opset13
    # 0 keeps the number of images.
    tokens = operators.constant(np.array([0, -1, channels.get_length()], np.int64))
    weighed = operators.multiply(
        *(operators.reshape(end, tokens, special_zero=True) for end in (map_, weights))
    )
    weighed.set_friendly_name(product.get_friendly_name())
    reshape.input(0).replace_source_output(weighed.output(0))
    return True


def _add_tokens(reshape: Any) -> bool:
    """Add the tokens of a convolution and of another map."""
    transposition = _source(reshape, "Transpose")
    if not transposition or not _is_channels_last(transposition):
        return False
    total = transposition.input_value(0)
    if not _is_sum_of_maps(total) or not any(map(_is_convolution, total.get_node().input_values())):
        return False
    operators = library.openvino().opset13
    special_zero = reshape.get_attributes()["special_zero"]

    def tokens(map_: Any) -> Any:
        if _is_sum_of_maps(map_):
            return operators.add(*map(tokens, map_.get_node().input_values()))
        pixels = operators.transpose(map_, transposition.input_value(1))
        return operators.reshape(pixels, reshape.input_value(1), special_zero)

    added = tokens(total)
    added.set_friendly_name(total.get_node().get_friendly_name())
    reshape.output(0).replace(added.output(0))
    return True


def _source(node: Any, kind: str) -> Any | None:
    """The node of the first input, if it is of a kind and nothing else reads it."""
    end = node.input_value(0)
    is_it = end.get_node().get_type_name() == kind and len(end.get_target_inputs()) == 1
    return end.get_node() if is_it else None


def _is_channels_last(node: Any) -> bool:
    if node.get_type_name() != "Transpose":
        return False
    order = node.input_value(1).get_node()
    return order.get_type_name() == "Constant" and tuple(order.get_data()) == _CHANNELS_LAST


def _is_sum_of_maps(end: Any) -> bool:
    """Whether only one node reads it, and both terms are maps. A bias is none: it has one pixel."""
    if end.get_node().get_type_name() != "Add" or len(end.get_target_inputs()) != 1:
        return False
    shapes = [term.get_partial_shape() for term in end.get_node().input_values()]
    return all(
        len(shape) == 4
        and str(shape[1]) == str(end.get_partial_shape()[1])
        and shape[2].is_dynamic
        and shape[3].is_dynamic
        for shape in shapes
    )


def _is_convolution(end: Any) -> bool:
    """Whether it is a convolution, with its bias or without."""
    node = end.get_node()
    if node.get_type_name() == "Add":
        return any(one.get_node().get_type_name() == "Convolution" for one in node.input_values())
    return bool(node.get_type_name() == "Convolution")
