"""Floats in, floats out, of any size: the `planar` form, made around the `tensor` form.

    input [N, 3, H, W] in [0, 1] -> pad -> cast -> network -> crop -> clip -> cast -> output

For programs that hold pictures as planes of floats and know nothing of a network's multiples of 64.
The axes have names, the same for input and output. A runtime that is told the input's sizes infers
the output's: it folds the arithmetic of the padding to constants. A checker that does not fold
infers nothing, and so takes no multiple for one that the network needs.
"""

from __future__ import annotations

import onnx_ir as ir

from maxim_deploy.errors import check_known
from maxim_deploy.graph.any_size import Nodes, check_tensor_form, cropped, put_around, side_of
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.recipes import IO_TYPES


def planar_form(core: ir.Model, io_type: str = FULL) -> ir.Model:
    """The graph from planes to planes around a network.

    Args:
        core: the `tensor` form: `image` float32 `[N, 3, 64h, 64w]` in [0, 1] to `restored`, the
            same; other types are fine inside. It is not modified.
        io_type: of `IO_TYPES`: type of input and output.

    Returns:
        A new model: `input` `[N, 3, H, W]` RGB in [0, 1], H and W at least 1, to `output` of the
        same type and shape, clipped. Its initializers are the core's, with the same names in the
        same order and sharing their memory, and no others.

    Raises:
        ExportError: the core is not of the `tensor` form.
        UsageError: there is no such type.
    """
    check_known("I/O type", io_type, IO_TYPES)
    check_tensor_form(core, "planar")
    model = core.clone()
    network = model.graph.outputs[0]
    outside = ir.DataType(PRECISIONS[io_type].onnx)
    planes = ir.val("input", outside, ("N", 3, "H", "W"))
    front, back = Nodes(), Nodes()
    height = side_of(front, planes, "height", axis=2)
    width = side_of(front, planes, "width", axis=3)
    # The fewer columns first: they cost more than rows, which are whole in memory.
    wide = front("pad/columns", "Gather", planes, width.source, axis=3)
    padded = front("pad/rows", "Gather", wide, height.source, axis=2)
    if io_type != FULL:
        padded = front("pad/float", "Cast", padded, to=ir.DataType.FLOAT)
    result = back("clip", "Clip", cropped(back, network, height, width), 0.0, 1.0)
    if io_type != FULL:
        result = back("clip/output", "Cast", result, to=outside)
    result.name, result.type, result.shape = "output", planes.type, planes.shape
    put_around(model, front, back, padded, planes, result)
    return model
