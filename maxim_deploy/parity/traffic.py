"""The cost of float32 islands: bytes that nodes read and write.

Counted as `graph.cost` does, without fusion, so that it is an upper bound; on a GPU, where this
network is bound by memory, an order of cost. Weights are not counted: their share vanishes with the
size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from maxim_deploy.graph.cost.cost import moved_by
from maxim_deploy.graph.cost.values import values_of
from maxim_deploy.graph.precision.type_constraints import (
    bound_inputs,
    bound_outputs,
    is_border,
    is_float,
)
from maxim_deploy.parity.blocks import Names

_WIDE, _LOW = 4, 2


@dataclass(frozen=True)
class _Activation:
    """One float tensor: its elements per pixel, who makes and who reads it ("" is the outside)."""

    size: float
    producer: str
    readers: frozenset[str]


class Traffic:
    """The traffic of one network under any choice of islands.

    Args:
        model: the float32 graph of the tensor form.
        shape: of the input, [1, 3, H, W]; sizes are those at this height and width.
    """

    def __init__(self, model: ir.Model, shape: tuple[int, ...]) -> None:
        opset = model.opset_imports[""]
        nodes = [node for node in model.graph if is_float(node) and not is_border(node)]
        sizes = _elements(model, shape)
        pixels = shape[-2] * shape[-1]
        self._moved: dict[str, float] = {}
        readers: dict[str, set[str]] = {name: set() for name in sizes}
        producers = dict.fromkeys(sizes, "")
        for node in nodes:
            name = str(node.name)
            # A set: a node that reads one tensor twice finds it in the cache the second time.
            read = {str(v.name) for v in bound_inputs(node, opset).values() if v.name in sizes}
            written = [str(value.name) for value in bound_outputs(node, opset)]
            # By the same rule as the cost of a graph: views move nothing, slices what they read.
            moved = moved_by(node.op_type, [sizes[v] for v in read], [sizes[v] for v in written])
            self._moved[name] = moved / pixels
            for value in read:
                readers[value].add(name)
            producers |= dict.fromkeys(written, name)
        # Who receives the result reads it: its cast counts like that of a reader inside.
        for output in model.graph.outputs:
            readers[str(output.name)].add("")
        self._tensors = [
            _Activation(sizes[name] / pixels, producers[name], frozenset(readers[name]))
            for name in sizes
        ]

    def added(self, nodes: Names) -> float:
        """Bytes per pixel that these nodes move more in float32, whatever the casts."""
        return sum(self._moved[name] for name in nodes) * (_WIDE - _LOW)

    def bytes_per_pixel(self, islands: Names) -> float:
        """Bytes read and written per pixel of the image, casts included."""
        widths = {name: _WIDE if name in islands else _LOW for name in self._moved}
        nodes = sum(size * widths[name] for name, size in self._moved.items())
        # One cast serves all readers of a tensor: it reads one type and writes the other.
        return nodes + sum(tensor.size * (_WIDE + _LOW) for tensor in self._cast(islands))

    def casts(self, islands: Names) -> int:
        """How many tensors cross the border of an island."""
        return len(self._cast(islands))

    def _cast(self, islands: Names) -> list[_Activation]:
        wide = islands | {""}  # inputs and outputs of the graph are float32
        return [
            tensor
            for tensor in self._tensors
            if any((reader in wide) != (tensor.producer in wide) for reader in tensor.readers)
        ]


def _elements(model: ir.Model, shape: tuple[int, ...]) -> dict[str, int]:
    """The number of elements of each float tensor that is no weight."""
    values = values_of(ir.to_proto(ir.external_data.load_to_model(model.clone())), shape)
    opset = model.opset_imports[""]
    nodes = [node for node in model.graph if is_float(node)]
    made = [str(value.name) for node in nodes for value in bound_outputs(node, opset)]
    return {name: values[name].elements for name in ("image", *made)}
