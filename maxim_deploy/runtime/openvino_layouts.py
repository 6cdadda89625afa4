"""Layouts of tensors in OpenVINO: what would move a whole map is computed on its tokens.

Convolutions have maps `[N, C, H, W]`, all else has tokens `[N H W, C]`; a transposition and a
reshape lead from one to the other. OpenVINO stores a map with its channels last, so they need to
move nothing. But OpenVINO 2026.4 moves the whole tensor, twice, in two cases:

- between the two, channel attention multiplies `[N, H, W, C]` by weights `[N, 1, 1, C]`, and
  OpenVINO prefers channels last for all products of four dimensions;
- the map is the sum of a convolution and another map, which the convolution adds in place.

A tensor of tokens has one layout only. S-2 in float32 is 1.05 times as fast at 256x256, 1.08 at
512x512 and 1.06 at 1024x1024 (two cores of a Xeon). Products of the largest maps hold one more of
them at the peak, so those of large images stay as they are. Without this limit the last factor is
1.13, and the peak 134 MB higher.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from maxim_deploy.machine import openvino as library

MOST_PIXELS = 512 * 512
"""Most padded pixels of all images for which products of the largest maps are changed too."""

_CHANNELS_LAST = (0, 2, 3, 1)


def compute_on_tokens(model: Any, pixels: int) -> int:
    """Multiply and add tokens rather than maps, in place. Results change by rounding at most.

    Args:
        model: the `openvino.Model`, whose height and width are dynamic.
        pixels: padded pixels of all images that it will be compiled for.

    Returns:
        How many products and sums were changed.
    """
    flat = [node for node in model.get_ordered_ops() if _flattens_pixels(node)]
    if pixels > MOST_PIXELS:
        # The largest maps have the fewest channels.
        least = min(map(_channels_of, flat), default=0)
        flat = [node for node in flat if _channels_of(node) > least]
    changed = sum(_weigh_tokens(reshape) or _add_tokens(reshape) for reshape in flat)
    if changed:
        model.validate_nodes_and_infer_types()
    return changed


def _flattens_pixels(node: Any) -> bool:
    """Whether it is a reshape of `[N, H, W, C]` to `[N H W, C]`, and nothing else reads those."""
    if node.get_type_name() != "Reshape":
        return False
    before, after = node.get_input_partial_shape(0), node.get_output_partial_shape(0)
    return (
        (len(before), len(after)) == (4, 2)
        and bool(sole_source(node, "Multiply") or sole_source(node, "Transpose"))
        and after[1].is_static
        and str(before[3]) == str(after[1])
    )


def _channels_of(reshape: Any) -> int:
    return int(reshape.get_output_partial_shape(0)[1].get_length())


def _weigh_tokens(reshape: Any) -> bool:
    """Multiply tokens by channel weights."""
    product = sole_source(reshape, "Multiply")
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
    rest = np.array([-1, channels.get_length()], np.int64)
    same = operators.concat([np.array([0], np.int64), rest], 0)  # 0 keeps the number of images
    result = operators.multiply(
        *(operators.reshape(end, same, special_zero=True) for end in (map_, weights))
    )
    images = operators.gather(
        operators.shape_of(map_), np.array([0], np.int64), np.array(0, np.int64)
    )
    per_image = operators.concat([images, rest], 0)
    # With the sums that follow it is one pass over memory, and no tensor of products.
    end = reshape.output(0)
    while added := _sum_of_tokens(end):
        end, other = added
        result = operators.add(result, operators.reshape(other, per_image, special_zero=False))
    flat = operators.reshape(result, reshape.input_value(1), special_zero=False)
    flat.set_friendly_name(end.get_node().get_friendly_name())
    end.replace(flat.output(0))
    return True


def _add_tokens(reshape: Any) -> bool:
    """Add the tokens of a convolution and of another map."""
    transposition = sole_source(reshape, "Transpose")
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


def sole_node(end: Any, kind: str) -> Any | None:
    """The node of an output, if it is of a kind and only one node reads it."""
    is_it = end.get_node().get_type_name() == kind and len(end.get_target_inputs()) == 1
    return end.get_node() if is_it else None


def sole_source(node: Any, kind: str) -> Any | None:
    """The node of the first input, if it is of a kind and nothing else reads it."""
    return sole_node(node.input_value(0), kind)


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


def _sum_of_tokens(end: Any) -> tuple[Any, Any] | None:
    """The only reader's sum with other tokens: its output, and the other term."""
    readers = end.get_target_inputs()
    if (
        len(readers) != 1
        or (total := (reader := readers.pop()).get_node()).get_type_name() != "Add"
    ):
        return None
    other = total.input_value(1 - reader.get_index())
    same_kind = str(other.get_partial_shape()) == str(end.get_partial_shape())
    return (total.output(0), other) if same_kind else None


def _is_convolution(end: Any) -> bool:
    """Whether it is a convolution, with its bias or without."""
    node = end.get_node()
    if node.get_type_name() == "Add":
        return any(one.get_node().get_type_name() == "Convolution" for one in node.input_values())
    return bool(node.get_type_name() == "Convolution")
