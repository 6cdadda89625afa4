"""Attribute the layers of an engine to blocks of the network and kinds of work.

Names of nodes suffice; the graph is not needed. Layers name the tensors between them, so a layer
outside of all blocks belongs to the place of its input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from maxim_deploy.engines.layers import Layer
from maxim_deploy.spec.kinds import MOVES, Source, kind_of_name, strongest
from maxim_deploy.spec.places import Place, place_of_name, stages_in, upstream

GENERATED = "kgen"
"""Kind of a layer with a generated kernel. It is never a product."""


def sources_of_layers(layers: Iterable[Layer]) -> list[Source]:
    """A source for each layer: the place of most of its nodes, and its main kind.

    Args:
        layers: layers in their order of execution.
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
"""Generated kernels are named after their operations, such as `__myl_ReshTran_myl0_124`."""


def only_moves(layer: Layer) -> bool:
    """Whether a layer computes nothing but only changes layout, copies or casts.

    If the kernel's name lists operations, the name decides: the kernel may contain only a part of a
    node, such as the layout change before a mean. Otherwise the nodes decide.
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
    """Its nodes, or else parts of its name: "a + b", "{ForeignNode[a...b]}" or "[a, b]"."""
    parts = re.split(r"\.\.\.|[\s+,\[\]{}()]+", layer.name)
    return list(layer.nodes) or [part for part in parts if part]
