"""The traffic of an engine, as stored in `export.json`; see `maxim_deploy.engines.traffic`.

A MAXIM does little arithmetic on much data, so its traffic determines its speed on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.spec.profiles import Shape


@dataclass(frozen=True)
class Part:
    """A group of an engine's layers: their number, and the bytes moved per pixel if known."""

    layers: int
    bytes_per_pixel: float | None


@dataclass(frozen=True)
class Traffic:
    """Traffic of an engine's layers at one size.

    Every input and output of every layer counts in full, as if there were no cache. Weights do not
    count. If a layer reads a part of a tensor, the part counts.

    Attributes:
        shape: shape of the image. None if the engine has ranges or several profiles: the layers are
            then those of all profiles, and the bytes are unknown.
        layers: number of layers.
        moves: number of layers that compute nothing: they change layout, copy or cast.
        bytes_per_pixel: bytes read and written per pixel of the image; None if unknown. The shares
            are then None too.
        float32_share: share of bytes in float32.
        moves_share: share of bytes moved by `moves`.
        activation_bytes: memory of the tensors reported by the builder, or None.
        by_block: traffic by name of the block, over all stages and levels, the largest first.
        by_kind: traffic by kind of work, the largest first.
    """

    shape: Shape | None
    layers: int
    moves: int
    bytes_per_pixel: float | None
    float32_share: float | None
    moves_share: float | None
    activation_bytes: int | None
    by_block: dict[str, Part]
    by_kind: dict[str, Part]

    @property
    def is_counted(self) -> bool:
        """Whether the bytes are known."""
        return self.bytes_per_pixel is not None
