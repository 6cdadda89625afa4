"""The arithmetic and memory traffic of each node of a graph, from shapes alone.

*Operations* are those of matrix products and convolutions, two per multiply-add, as in the peak
rates of processors. All other work (GELU, normalisation, sums) is little arithmetic on much data,
and counts by its bytes.

*Bytes* are the traffic of a node that reads each input once and writes each result once. Views,
such as Reshape, move nothing. `fused_bytes` is the remaining traffic if all other nodes are fused
into matrix products and convolutions.

The bound (S. Williams et al., "Roofline", CACM 52(4), 2009): a node takes at least the time of its
operations at the machine's highest rate, and at least the time of its bytes at the machine's
bandwidth. The sum over all nodes is the shortest time of this graph, node by node. The bandwidth is
that of main memory, so a CPU whose caches hold the tensors of a small image can beat the bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from onnx import GraphProto, NodeProto

from maxim_deploy.errors import UsageError
from maxim_deploy.graph.cost.live_set import VIEWS
from maxim_deploy.graph.cost.values import Value, values_of
from maxim_deploy.graph.files import load_proto

FREE = VIEWS | {"Constant", "Shape", "Size"}
"""Operators that move no data: views, constants and queries of shapes."""

PARTIAL = frozenset({"Gather", "Slice"})
"""Operators that read only those parts of their first input that they write."""

UNCOUNTED = frozenset(
    {"Attention", "ConvInteger", "DeformConv", "Einsum", "GRU", "LSTM", "MatMulInteger", "RNN"}
)
"""Operators that contain products but have no formula here. Our graphs do not use them."""


@dataclass(frozen=True)
class NodeCost:
    """One node: its name, operator, operations (two per multiply-add) and bytes moved."""

    name: str
    operator: str
    operations: int
    bytes: int

    def bound_s(self, operations_per_s: float, bytes_per_s: float) -> float:
        """Least seconds of the node on a machine with these ceilings."""
        return max(self.operations / operations_per_s, self.bytes / bytes_per_s)


@dataclass(frozen=True)
class Cost:
    """A graph at one size of its input.

    Attributes:
        pixels: pixels of the input, over all images of the batch.
        nodes: nodes in the graph's order, without those that depend on weights alone.
    """

    pixels: int
    nodes: tuple[NodeCost, ...]

    @property
    def operations(self) -> int:
        """Operations of all matrix products and convolutions, two per multiply-add."""
        return sum(node.operations for node in self.nodes)

    @property
    def bytes(self) -> int:
        """Bytes moved if each node reads its inputs once and writes its results once."""
        return sum(node.bytes for node in self.nodes)

    @property
    def fused_bytes(self) -> int:
        """Bytes moved by matrix products and convolutions alone."""
        return sum(node.bytes for node in self._products())

    def bound_s(self, operations_per_s: float, bytes_per_s: float, *, fused: bool = False) -> float:
        """Least seconds of the graph, node by node.

        Args:
            operations_per_s: the machine's highest rate.
            bytes_per_s: the machine's bandwidth, read and written bytes together.
            fused: whether all nodes except products and convolutions count as free.
        """
        nodes = self._products() if fused else self.nodes
        return sum(node.bound_s(operations_per_s, bytes_per_s) for node in nodes)

    def _products(self) -> Iterable[NodeCost]:
        return (node for node in self.nodes if node.operations)


def cost_of(graph: Path, shape: tuple[int, int, int, int]) -> Cost:
    """The cost of an ONNX file in float32 or float16 for one input.

    Args:
        graph: a graph of either form, with its weights beside it.
        shape: shape of the input in the form's layout: `[N, 3, H, W]` or `[N, H, W, 3]`.

    Raises:
        UsageError: the graph has a subgraph, or an operator without a formula.
        BackendError: ONNX Runtime cannot run the graph at this shape.
    """
    model = load_proto(graph)
    values = values_of(model, shape)
    nodes = tuple(_node_cost(node, values) for node in _at_run_time(model.graph))
    return Cost(math.prod(shape) // 3, nodes)


def moved_by(operator: str, read: Collection[int], written: Collection[int]) -> int:
    """The traffic of a node: each input is read once and each result written once.

    Args:
        operator: operator type of the node.
        read: sizes of its inputs, in bytes or in elements.
        written: sizes of its results, in the same unit.
    """
    if operator in FREE:
        return 0
    return sum(written) + sum(written if operator in PARTIAL else read)


def _at_run_time(graph: GraphProto) -> Iterable[NodeProto]:
    """The nodes that depend on the input. Others run once, when the graph is loaded."""
    changing = {value.name for value in graph.input}
    for node in graph.node:
        if not changing.isdisjoint(node.input):
            changing.update(node.output)
            yield node


def _node_cost(node: NodeProto, values: dict[str, Value]) -> NodeCost:
    inputs = [values[name] for name in node.input if name]
    outputs = [values[name] for name in node.output if name]
    operations = 2 * _multiply_adds(node, inputs, outputs[0])
    # A tensor that occurs twice among the inputs, as in a square, is read once.
    read = [values[name].bytes for name in {*node.input} if name]
    moved = moved_by(node.op_type, read, [value.bytes for value in outputs])
    return NodeCost(node.name, node.op_type, operations, moved)


def _multiply_adds(node: NodeProto, inputs: list[Value], output: Value) -> int:
    match node.op_type:
        case "MatMul":
            return output.elements * inputs[0].shape[-1]
        case "Gemm":
            transposed = any(item.name == "transA" and item.i for item in node.attribute)
            return output.elements * inputs[0].shape[0 if transposed else 1]
        case "Conv":  # kernel [out, in / group, height, width]: per result
            return output.elements * math.prod(inputs[1].shape[1:])
        case "ConvTranspose":  # kernel [in, out / group, height, width]: per input value
            return inputs[0].elements * math.prod(inputs[1].shape[1:])
        case kind if kind in UNCOUNTED:
            raise UsageError(f"no formula for the operations of {kind} in {node.name!r}")
    return 0
