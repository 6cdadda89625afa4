"""From the nodes that a runtime executes to places and kinds.

ONNX Runtime fuses nodes, takes some apart, inserts casts and changes of layout, and renames. What
it keeps are the names of the tensors at the seams. A node belongs, in this order, to

1. the exported node of its name,
2. the exported node that makes its result,
3. whatever the next such node downstream belongs to: a change of layout before a convolution, and
   the pieces of a GELU before its result, are there for the sake of what follows,
4. the last such node upstream.
"""

from __future__ import annotations

from collections import deque

from onnx import GraphProto, NodeProto

from maxim_deploy.spec.kinds import Source, kind_of
from maxim_deploy.spec.places import places_of

_CAST_PREFIX = "InsertedPrecisionFreeCast_"
"""What ONNX Runtime puts before the name of a float16 tensor that it computes in float32."""


def sources_of(executed: GraphProto, exported: GraphProto) -> list[Source]:
    """A source for each node of the graph that ONNX Runtime executes, in that graph's order.

    Args:
        executed: as ONNX Runtime saves it after its optimisations.
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
    """Numbers of the nodes that read each node's results, and of those that make its inputs."""
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
    """What the nearest node in one direction is known to belong to."""
    seen, waiting = {start}, deque([start])
    while waiting:
        for other in neighbours[waiting.popleft()]:
            if (origin := found[other]) is not None:
                return origin
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return None
