"""Attributes the nodes that a runtime executes to places and kinds.

ONNX Runtime fuses, splits and renames nodes, and inserts casts and changes of layout. It keeps the
names of the tensors between the parts. A node belongs to the first of these that exists:

1. the exported node with the same name,
2. the exported node that makes its result,
3. the source of the nearest attributed node downstream, because a change of layout serves the
   convolution after it, and the pieces of a GELU serve its result,
4. the source of the nearest attributed node upstream.
"""

from __future__ import annotations

from collections import deque

from onnx import GraphProto, NodeProto

from maxim_deploy.spec.kinds import Source, kind_of
from maxim_deploy.spec.places import places_of

_CAST_PREFIX = "InsertedPrecisionFreeCast_"
"""ONNX Runtime's prefix for the name of a float16 tensor that it computes in float32."""


def sources_of(executed: GraphProto, exported: GraphProto) -> list[Source]:
    """A source for each node of the graph that ONNX Runtime executes, in that graph's order.

    Args:
        executed: the graph that ONNX Runtime saves after its optimisations.
        exported: the graph that it was made from.
    """
    places = places_of(exported.node)
    known = {node.name: node for node in exported.node}
    makes = {name: node for node in exported.node for name in node.output}
    found = [_exported(node, known, makes) for node in executed.node]
    down, up = _neighbours(executed)
    sources = []
    for number, node in enumerate(executed.node):
        origin = found[number] or _nearest(number, found, down) or _nearest(number, found, up)
        place = places[origin.name] if origin else None
        replaced = origin.op_type if origin and origin.name != node.name else None
        sources.append(Source(place, kind_of(node.op_type, replaced)))
    return sources


def _exported(
    node: NodeProto, known: dict[str, NodeProto], makes: dict[str, NodeProto]
) -> NodeProto | None:
    if node.name in known:
        return known[node.name]
    for name in node.output:
        if origin := makes.get(name) or makes.get(name.removeprefix(_CAST_PREFIX)):
            return origin
    return None


def _neighbours(graph: GraphProto) -> tuple[list[list[int]], list[list[int]]]:
    """For each node, the numbers of the nodes that read its results, and that make its inputs."""
    maker = {name: k for k, node in enumerate(graph.node) for name in node.output if name}
    up = [[maker[name] for name in node.input if name in maker] for node in graph.node]
    down: list[list[int]] = [[] for _ in graph.node]
    for number, makers in enumerate(up):
        for other in makers:
            down[other].append(number)
    return down, up


def _nearest(
    start: int, found: list[NodeProto | None], neighbours: list[list[int]]
) -> NodeProto | None:
    """The exported node of the nearest attributed node in one direction."""
    seen, waiting = {start}, deque([start])
    while waiting:
        for other in neighbours[waiting.popleft()]:
            if (origin := found[other]) is not None:
                return origin
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return None
