"""Count an engine's traffic from its list of layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from maxim_deploy.engines.layers import Layer
from maxim_deploy.engines.sources import only_moves, sources_of_layers
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.profiles import Profile, Shape
from maxim_deploy.spec.quantities import readable_bytes
from maxim_deploy.spec.traffic import Part, Traffic


def traffic_of(
    layers: Sequence[Layer], shape: Shape | None, activation_bytes: int | None = None
) -> Traffic:
    """The traffic of one run.

    Args:
        layers: layers of an engine, in order.
        shape: shape of the image that it was built for; None if it takes several. Bytes are then
            unknown, and also if the list lacks tensors or has open dimensions.
        activation_bytes: memory reported by the builder.
    """
    moved = [_bytes(layer) for layer in layers]
    known = shape is not None and any(moved) and None not in moved
    sizes = [size or 0 for size in moved]
    pixels = shape.pixels if shape and known else None
    moves = [size for size, layer in zip(sizes, layers, strict=True) if only_moves(layer)]
    sources = sources_of_layers(layers)
    blocks = [source.place.name if source.place else "other" for source in sources]
    return Traffic(
        shape=shape,
        layers=len(layers),
        moves=len(moves),
        bytes_per_pixel=_part(sizes, pixels).bytes_per_pixel,
        float32_share=round(_float32(layers) / sum(sizes), 4) if known else None,
        moves_share=round(sum(moves) / sum(sizes), 4) if known else None,
        activation_bytes=activation_bytes,
        by_block=_parts(blocks, sizes, pixels),
        by_kind=_parts([source.kind for source in sources], sizes, pixels),
    )


def _parts(names: Iterable[str], sizes: Iterable[int], pixels: int | None) -> dict[str, Part]:
    """Groups by name, the largest first: by bytes, or by layers if bytes are unknown."""
    groups = defaultdict(list)
    for name, size in zip(names, sizes, strict=True):
        groups[name].append(size)
    found = {name: _part(group, pixels) for name, group in groups.items()}
    order = sorted(found, key=lambda name: (found[name].bytes_per_pixel or 0, found[name].layers))
    return {name: found[name] for name in reversed(order)}


def _part(sizes: Sequence[int], pixels: int | None) -> Part:
    return Part(len(sizes), round(sum(sizes) / pixels, 1) if pixels else None)


def traffic_as_built(
    layers: Sequence[Layer], profiles: Sequence[Profile], activation_bytes: int | None
) -> list[Traffic]:
    """Traffic from an engine's own list: complete for one size, otherwise only counts.

    Several profiles share one list, in which the library does not separate them.
    """
    fixed = len(profiles) == 1 and profiles[0].fixed
    shape = profiles[0].opt if fixed else None
    return [traffic_of(layers, shape, activation_bytes)] if layers else []


def traffic_text(traffic: Traffic) -> list[str]:
    """Lines of text. All but the first are indented."""
    if traffic.bytes_per_pixel is None:
        return [
            f"traffic: {traffic.layers} layers, {traffic.moves} of them only move data; bytes "
            "need a fixed size: build with --traffic"
        ]
    memory = traffic.activation_bytes
    activations = f"; {readable_bytes(memory)} of activations" if memory else ""
    return [
        f"traffic at {traffic.shape}: {traffic.bytes_per_pixel:.0f} bytes per pixel in "
        f"{traffic.layers} layers; {100 * (traffic.float32_share or 0):.1f} % float32, "
        f"{100 * (traffic.moves_share or 0):.1f} % in layers that only move data "
        f"({traffic.moves}){activations}",
        f"  by block: {_shares(traffic.by_block, traffic.bytes_per_pixel)}",
        f"  by kind of work: {_shares(traffic.by_kind, traffic.bytes_per_pixel)}",
    ]


def _shares(parts: dict[str, Part], total: float) -> str:
    return ", ".join(
        f"{name} {100 * (part.bytes_per_pixel or 0) / total:.1f} % in {part.layers}"
        for name, part in parts.items()
    )


def _bytes(layer: Layer) -> int | None:
    """All tensors that a layer reads and writes, without weights; None if unknown."""
    sizes = [tensor.bytes for tensor in (*layer.inputs, *layer.outputs)]
    return None if None in sizes else sum(filter(None, sizes))


def _float32(layers: Iterable[Layer]) -> int:
    wide = PRECISIONS[FULL].type
    tensors = (tensor for layer in layers for tensor in (*layer.inputs, *layer.outputs))
    return sum(tensor.bytes or 0 for tensor in tensors if tensor.type == wide)
