"""The live set of a graph: the least memory that its execution order needs.

A tensor lives from the node that makes it to the last node that reads it. The largest sum of living
tensors is the need of a perfect allocator without computation in place. It depends on the graph
alone, so it shows the effect of a rewrite independently of runtimes.

Weights and constants do not count. The caller holds the input, so it lives throughout. The output
lives from its node to the end. A view, such as Reshape, counts as its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from onnx import GraphProto

from maxim_deploy.graph.cost.values import Value, values_of
from maxim_deploy.graph.files import load_proto

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators whose results share the memory of their first input."""


@dataclass(frozen=True)
class LiveSet:
    """The largest live set: its bytes, its node, and the pixels of the input."""

    bytes: int
    node: str
    pixels: int

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes per pixel of the padded input."""
        return self.bytes / self.pixels


def live_set(graph: Path, shape: tuple[int, int, int, int]) -> LiveSet:
    """The live set of a graph for an input of this shape, in the layout of the form.

    Raises:
        UsageError: the graph has subgraphs, so it has no single order of execution.
        BackendError: ONNX Runtime cannot run the graph at this shape.
    """
    model = load_proto(graph)
    largest, where = _largest(model.graph, values_of(model, shape))
    return LiveSet(largest, where, math.prod(shape) // 3)


def _largest(graph: GraphProto, values: dict[str, Value]) -> tuple[int, str]:
    owner = _owners(graph)
    last_use: dict[str, int] = {}
    for step, node in enumerate(graph.node):
        last_use |= {owner[name]: step for name in (*node.input, *node.output) if name in owner}
    ends = [*graph.input, *graph.output]
    last_use |= {owner[value.name]: len(graph.node) for value in ends if value.name in owner}
    living = {value.name for value in graph.input if value.name in owner}
    peaks = []
    for step, node in enumerate(graph.node):
        # Results live beside the inputs, because nothing is computed in place.
        living |= {owner[name] for name in node.output if name in owner}
        peaks.append((sum(values[name].bytes for name in living), node.name))
        living = {name for name in living if last_use[name] > step}
    return max(peaks, key=lambda peak: peak[0])


def _owners(graph: GraphProto) -> dict[str, str]:
    """For every counted tensor the owner of its memory: itself, unless it is a view."""
    constant = {value.name for value in graph.initializer}
    owner = {value.name: value.name for value in graph.input if value.name not in constant}
    for node in graph.node:
        is_view = node.op_type in VIEWS
        if node.op_type == "Constant" or (is_view and node.input[0] in constant):
            constant |= {*node.output}
            continue
        # A view of a view is owned by the bottom tensor, which must not count twice.
        source = owner[node.input[0]] if is_view else None
        owner |= {name: source or name for name in node.output if name}
    return owner
