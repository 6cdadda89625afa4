"""The `planar` form, floats of any size, made around the `tensor` form.

    input [N, 3, H, W] in [0, 1] -> pad -> cast -> network -> crop -> clip -> cast -> output

It serves programs that store pictures as planes of floats and do not pad to multiples of 64. Input
and output share the names of axes. A runtime that knows the input's sizes infers the output's,
because it folds the padding's arithmetic to constants. A checker that does not fold infers no
sizes, so it does not require multiples.
"""

from __future__ import annotations

import onnx_ir as ir

from maxim_deploy.errors import check_known
from maxim_deploy.graph.any_size import Nodes, check_tensor_form, cropped, put_around, side_of
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.recipes import IO_TYPES


def planar_form(core: ir.Model, io_type: str = FULL) -> ir.Model:
    """Enclose a network in a graph from planes to planes.

    Args:
        core: the `tensor` form: `image` float32 `[N, 3, 64h, 64w]` in [0, 1] to `restored` of the
            same type and shape. Inner types may differ. It is not modified.
        io_type: type of input and output, of `IO_TYPES`.

    Returns:
        A new model: `input` `[N, 3, H, W]` RGB in [0, 1], H and W at least 1, to `output` of the
        same type and shape, clipped. Its initializers are exactly the core's: same names, same
        order, shared memory.

    Raises:
        ExportError: the core does not have the `tensor` form.
        UsageError: the type is unknown.
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
    # Columns first, while there are fewer: they cost more than rows, which are contiguous.
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
