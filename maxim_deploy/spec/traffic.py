"""The traffic of an engine as `export.json` has it; see `maxim_deploy.engines.traffic`.

A MAXIM does little arithmetic on much data, so that its traffic decides its speed on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.spec.profiles import Shape


@dataclass(frozen=True)
class Part:
    """Some of an engine's layers: how many, and the bytes that they move per pixel, if known."""

    layers: int
    bytes_per_pixel: float | None


@dataclass(frozen=True)
class Traffic:
    """What the layers of an engine move at one size.

    Every input and output of every layer counts in full, as if no cache held any of it; weights do
    not count. What a layer reads of a part of a tensor counts as that part.

    Attributes:
        shape: of the image. None for the list of the engine itself where it has ranges or several
            profiles: its layers are then those of all profiles, and the bytes are unknown.
        layers: how many there are.
        moves: those of them that compute nothing: they change layout, copy or cast.
        bytes_per_pixel: read and written, over the pixels of the image; None if unknown, and
            likewise the shares.
        float32_share: share of the bytes that is float32.
        moves_share: share of the bytes that `moves` move.
        activation_bytes: memory of the tensors as the builder reports it, or None.
        by_block: by the name of the block over all stages and levels, the largest first.
        by_kind: by the kind of work, likewise.
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
