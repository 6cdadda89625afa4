"""Padding and cropping as nodes around the `tensor` form, for images of any size.

The padding is that of the published evaluation (`imaging.Padding`), for every size from 1x1 on.
ONNX `Pad` in reflect mode refuses a side that is shorter than its padding. So the padding is a
gather: each padded row shows one row of the image, whose index has a closed form. For a side of
`size` pixels,

    even   = size + size % 2                     an odd side first gets one more row
    padded = size, up to the next multiple of 64
    before = (padded - size) / 2, rounded down   rows in front of the first one
    away   = |i - before|                        for padded row i; a reflection is symmetric
    turn   = away % (2 even - 2)                 forth over the even side and back ...
    row    = min(turn, 2 even - 2 - turn)        ... is a triangle wave over 0 .. even - 1
    source = max(min(row, 2 size - 2 - row), 0)

The last line handles the extra row of an odd side: row `size` shows `size - 2`, or row 0 if there
is only one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from maxim_deploy.errors import ExportError
from maxim_deploy.spec.architecture import MULTIPLE_OF


def check_tensor_form(core: ir.Model, wanted: str) -> None:
    """Raise an error for a graph that the `wanted` form cannot enclose.

    Raises:
        ExportError: the graph does not have the `tensor` form.
    """
    found = [*core.graph.inputs, *core.graph.outputs]
    fits = all(
        value.dtype == ir.DataType.FLOAT
        and value.shape is not None
        and value.shape.rank() == 4
        and value.shape[1] == 3
        for value in found
    )
    if [value.name for value in found] != ["image", "restored"] or not fits:
        signature = ", ".join(f"{value.name} {value.dtype} {value.shape}" for value in found)
        raise ExportError(
            f"the {wanted} form is made from the tensor form, a graph from `image` to `restored`, "
            f"both float32 [N, 3, H, W]; this one has: {signature}"
        )


class Nodes:
    """Makes nodes with descriptive names and keeps them in order."""

    def __init__(self) -> None:
        self.made: list[ir.Node] = []

    def __call__(
        self,
        name: str,
        operator: str,
        *inputs: ir.Value | float | list[int],
        **attributes: int | list[int] | ir.TensorProtocol,
    ) -> ir.Value:
        """Add a node.

        Returns its output, which has its name. Numbers among the inputs become constants.
        """
        values = [self._value(f"{name}/constant_{k}", entry) for k, entry in enumerate(inputs)]
        output = ir.Value(name=name)
        self.made.append(ir.node(operator, values, attributes, outputs=[output], name=name))
        return output

    def _value(self, name: str, entry: ir.Value | float | list[int]) -> ir.Value:
        if isinstance(entry, ir.Value):
            return entry
        # A node rather than an initializer: initializers are the weights, which both forms share.
        array = np.asarray(entry, np.float32 if isinstance(entry, float) else np.int64)
        return self(name, "Constant", value=ir.tensor(array))


@dataclass(frozen=True)
class Side:
    """The height or the width in a graph, as int64. Names are those of the module's formulas.

    Attributes:
        size: `[1]`, pixels of the image.
        before: `[1]`, pixels of padding before the image.
        source: `[padded]`, the source row or column of each padded one.
    """

    size: ir.Value
    before: ir.Value
    source: ir.Value


def side_of(nodes: Nodes, image: ir.Value, side: str, axis: int) -> Side:
    """The module's formulas for one side, "height" or "width", which is an axis of `image`."""

    def make(what: str, operator: str, *inputs: ir.Value | float, **attributes: int) -> ir.Value:
        return nodes(f"pad/{side}/{what}", operator, *inputs, **attributes)

    size = make("size", "Shape", image, start=axis, end=axis + 1)
    even = make("even", "Add", size, make("odd", "Mod", size, 2))
    above = make("above", "Add", size, MULTIPLE_OF - 1)
    multiples = make("multiples", "Div", above, MULTIPLE_OF)  # integer division rounds down
    padded = make("padded", "Mul", multiples, MULTIPLE_OF)
    before = make("before", "Div", make("missing", "Sub", padded, size), 2)

    index = make("index", "Range", 0, make("count", "Squeeze", padded), 1)
    away = make("away", "Abs", make("offset", "Sub", index, before))
    period = make("period", "Sub", make("twice_even", "Mul", even, 2), 2)
    turn = make("turn", "Mod", away, period)
    row = make("row", "Min", turn, make("turn_back", "Sub", period, turn))
    twice_last = make("twice_last", "Sub", make("twice_size", "Mul", size, 2), 2)
    mirrored = make("mirrored", "Min", row, make("row_back", "Sub", twice_last, row))
    return Side(size, before, make("source", "Max", mirrored, 0))


def cropped(nodes: Nodes, network: ir.Value, height: Side, width: Side) -> ir.Value:
    """From the network's `[N, 3, padded height, padded width]` to `[N, 3, height, width]`."""
    part = network
    for axis, name, side in ((2, "crop/rows", height), (3, "crop/columns", width)):
        end = nodes(f"{name}/end", "Add", side.before, side.size)
        part = nodes(name, "Slice", part, side.before, end, [axis])
    return part


def put_around(
    model: ir.Model, front: Nodes, back: Nodes, padded: ir.Value, image: ir.Value, result: ir.Value
) -> None:
    """Put nodes before and after the network of a graph, in place.

    Args:
        model: the graph. Its output is still the network's.
        front: the nodes from `image` to `padded`.
        back: the nodes from the network's output to `result`.
        padded: the network's input.
        image: the new input.
        result: the new output.
    """
    graph = model.graph
    network_input = graph.inputs[0]
    padded.type, padded.shape = network_input.type, network_input.shape
    network_input.replace_all_uses_with(padded)
    graph.insert_before(graph[0], front.made)
    graph.extend(back.made)
    graph.inputs[0], graph.outputs[0] = image, result
