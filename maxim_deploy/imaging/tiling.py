"""Overlapping tiles of an image, and the weights that blend them again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import UsageError
from maxim_deploy.spec.architecture import MULTIPLE_OF

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size that cover an image.

    Each axis has as few tiles as the overlap allows, evenly spaced from its beginning to its end. A
    side that is not longer than a tile has one tile. Neighbours share at least `overlap` pixels, in
    which one fades out while the other fades in (a raised cosine). The weights of all tiles sum to
    1 at every pixel.

    Tiles begin at multiples of 64, where the blocks that the network mixes are those of the whole
    image, at every level. At other offsets the result is 5 dB further from the whole image's.

    Args:
        height: rows of the padded image, a multiple of 64.
        width: columns of the padded image, a multiple of 64.
        tile: rows and columns of a tile, multiples of 64; at most the image's are used.
        overlap: least number of pixels that neighbours share. On a side with several tiles it is at
            least 64 less than a tile.

    Raises:
        UsageError: a side that is not a multiple of 64, or too much overlap.
    """

    height: int
    width: int
    tile: tuple[int, int]
    overlap: int

    def __post_init__(self) -> None:
        sides = (self.height, self.width, *self.tile)
        if min(sides) < 1 or any(side % MULTIPLE_OF for side in sides):
            raise UsageError(f"tiles and the image must have sides in multiples of 64, not {sides}")
        lengths = zip(self.tile, (self.height, self.width), strict=True)
        most = min((side - MULTIPLE_OF for side, length in lengths if side < length), default=None)
        if self.overlap < 0 or (most is not None and self.overlap > most):
            raise UsageError(
                f"tiles of {self.tile[0]}x{self.tile[1]} can overlap by 0 to {most} pixels, not "
                f"{self.overlap}"
            )

    @property
    def count(self) -> int:
        """Number of tiles."""
        tile_height, tile_width = self._sides
        tops = _starts(self.height, tile_height, self.overlap)
        lefts = _starts(self.width, tile_width, self.overlap)
        return len(tops) * len(lefts)

    def __iter__(self) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Rows, columns and weights `[rows, columns]` of each tile."""
        tile_height, tile_width = self._sides
        tops, down = _along(self.height, tile_height, self.overlap)
        lefts, across = _along(self.width, tile_width, self.overlap)
        for top, rows in zip(tops, down, strict=True):
            for left, columns in zip(lefts, across, strict=True):
                window = slice(top, top + len(rows)), slice(left, left + len(columns))
                yield window, rows[:, None] * columns[None, :]

    @property
    def _sides(self) -> tuple[int, int]:
        """Rows and columns of a tile, at most the image's."""
        return min(self.tile[0], self.height), min(self.tile[1], self.width)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Offsets of tiles along one axis."""
    step = (tile - overlap) // MULTIPLE_OF * MULTIPLE_OF
    count = 1 + -(-(length - tile) // step) if tile < length else 1
    even = (length - tile) / MULTIPLE_OF / max(count - 1, 1)
    return [round(k * even) * MULTIPLE_OF for k in range(count)]


def _along(length: int, tile: int, overlap: int) -> tuple[list[int], list[NDArray[np.float32]]]:
    """Offsets of tiles along one axis, and the weights `[tile]` of each along it.

    Memory grows with the number of tiles. Weights over the whole length would grow with its square.
    """
    starts = _starts(length, tile, overlap)
    weights = [np.ones(tile) for _ in starts]
    for (before, after), (start, following) in zip(
        pairwise(weights), pairwise(starts), strict=True
    ):
        shared = start + tile - following
        # Not `[-shared:]`, which selects everything if nothing is shared.
        before[tile - shared :] *= _fade(shared)[::-1]
        after[:shared] *= _fade(shared)
    total = np.zeros(length)
    for start, row in zip(starts, weights, strict=True):
        total[start : start + tile] += row
    # Where three tiles overlap, their fades alone do not sum to 1.
    return starts, [
        (row / total[start : start + tile]).astype(np.float32)
        for start, row in zip(starts, weights, strict=True)
    ]


def _fade(length: int) -> NDArray[np.float64]:
    """From near 0 to near 1: a fade and its reverse sum to 1."""
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)
