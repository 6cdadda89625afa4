"""The `image` form of a graph, made around its `tensor` form.

    image uint8 [N, H, W, 3] -> scale -> pad -> network -> crop -> quantise -> restored, the same

TensorRT accepts uint8 only between a graph's input or output and a cast, so the casts stand at the
ends. Columns are gathered while the channels of a pixel are neighbours in memory, and rows while
whole rows are contiguous. On a CPU, other orders take ONNX Runtime several times as long.
"""

from __future__ import annotations

import onnx_ir as ir

from maxim_deploy.graph.any_size import (
    Nodes,
    Side,
    check_tensor_form,
    cropped,
    put_around,
    side_of,
)

WHITE = 255.0
"""The 8-bit level that represents 1.0."""


def image_form(core: ir.Model) -> ir.Model:
    """Enclose a network in a graph from 8-bit images to 8-bit images.

    Args:
        core: the `tensor` form: `image` float32 `[N, 3, 64h, 64w]` in [0, 1] to `restored` of the
            same type and shape. Inner types may differ. It is not modified.

    Returns:
        A new model: `image` uint8 `[N, H, W, 3]` RGB, H and W at least 1, to `restored` of the same
            type and shape, clipped and rounded to nearest (halves to even). Its initializers are
            exactly the core's: same names, same order, shared memory.

    Raises:
        ExportError: the core does not have the `tensor` form.
    """
    check_tensor_form(core, "image")
    model = core.clone()
    network = model.graph.outputs[0]
    image = ir.val("image", ir.DataType.UINT8, ("N", "H", "W", 3))
    front, back = Nodes(), Nodes()
    height = side_of(front, image, "height", axis=1)
    width = side_of(front, image, "width", axis=2)
    padded = _scaled_and_padded(front, image, height, width)
    network.name = "network/restored"
    restored = _quantised(back, cropped(back, network, height, width))
    restored.name, restored.type, restored.shape = "restored", image.type, image.shape
    put_around(model, front, back, padded, image, restored)
    return model


def _scaled_and_padded(nodes: Nodes, image: ir.Value, height: Side, width: Side) -> ir.Value:
    """Nodes from the image to float32 `[N, 3, padded height, padded width]` in [0, 1]."""
    levels = nodes("scale/levels", "Cast", image, to=ir.DataType.FLOAT)
    unit = nodes("scale/unit", "Div", levels, WHITE)
    wide = nodes("pad/columns", "Gather", unit, width.source, axis=2)
    planes = nodes("pad/planes", "Transpose", wide, perm=[0, 3, 1, 2])
    return nodes("pad/rows", "Gather", planes, height.source, axis=2)


def _quantised(nodes: Nodes, restored: ir.Value) -> ir.Value:
    """Nodes from float32 `[N, 3, H, W]` to 8-bit `[N, H, W, 3]`."""
    unit = nodes("quantise/clip", "Clip", restored, 0.0, 1.0)
    levels = nodes("quantise/levels", "Mul", unit, WHITE)
    rounded = nodes("quantise/round", "Round", levels)
    pixels = nodes("quantise/pixels", "Transpose", rounded, perm=[0, 2, 3, 1])
    return nodes("quantise/restored", "Cast", pixels, to=ir.DataType.UINT8)
