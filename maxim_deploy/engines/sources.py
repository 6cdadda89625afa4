"""What the layers of an engine belong to: blocks of the network and kinds of work.

Names of nodes tell it, without the graph. Layers name the tensors between them, so that one whose
nodes are outside of all blocks belongs to where its input comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from maxim_deploy.engines.layers import Layer
from maxim_deploy.spec.kinds import MOVES, Source, kind_of_name, strongest
from maxim_deploy.spec.places import Place, place_of_name, stages_in, upstream

GENERATED = "kgen"
"""Kind of a layer whose kernel the builder has generated; it never is a product."""


def sources_of_layers(layers: Iterable[Layer]) -> list[Source]:
    """A source for each layer: the place that most of its nodes belong to, and its strongest kind.

    Args:
        layers: in the order in which they run.
    """
    listed = list(layers)
    stages = stages_in(name for layer in listed for name in _names(layer))
    maker: dict[str, Place] = {}
    sources = []
    for layer in listed:
        source = _source(layer, stages, maker)
        if source.place:
            maker.update((tensor.name, source.place) for tensor in layer.outputs)
        sources.append(source)
    return sources


_KERNEL = re.compile(r"__myl_([A-Za-z]+)_myl\d")
_MOVING_KERNEL = re.compile(r"__myl_(Cast|Conc|Gath|Move|Resh|Slic|Tran)+_myl\d")
"""A generated kernel is named after its operations, such as `__myl_ReshTran_myl0_124`."""


def only_moves(layer: Layer) -> bool:
    """Whether a layer computes nothing: all that it does is to change layout, copy or cast.

    Its kernel's name tells, if that is made of operations: the kernel may have a part of a node
    only, such as the change of layout before a mean. Otherwise its nodes do.
    """
    if _KERNEL.match(layer.name):
        return bool(_MOVING_KERNEL.match(layer.name))
    kinds = {kind_of_name(name) for name in layer.nodes}
    return bool(kinds) and kinds <= MOVES


def _source(layer: Layer, stages: int, maker: dict[str, Place]) -> Source:
    names = _names(layer)
    places = [place for name in names if (place := place_of_name(name, stages))]
    kind = strongest([kind_of_name(name) for name in names], generated=layer.kind == GENERATED)
    if places:
        return Source(max(places, key=places.count), kind)
    known = layer.nodes or kind != "other"
    return Source(upstream((t.name for t in layer.inputs), maker) if known else None, kind)


def _names(layer: Layer) -> list[str]:
    """Its nodes, or parts of its name: "a + b", "{ForeignNode[a...b]}" or "[a, b]"."""
    parts = re.split(r"\.\.\.|[\s+,\[\]{}()]+", layer.name)
    return list(layer.nodes) or [part for part in parts if part]
