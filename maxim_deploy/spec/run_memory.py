"""How much memory a run takes, by its size: a value that travels with a graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class RunMemory(NamedTuple):
    """What a run takes, by its padded pixels: those of all images that it takes together.

    Attributes:
        measured: (pixels, bytes) of some runs, the smallest first; lines lie between them.
        bytes_per_pixel: of each pixel beyond the last of those.
    """

    measured: Sequence[tuple[int, int]]
    bytes_per_pixel: float

    def bytes_for(self, pixels: int) -> int:
        """Of a run on so many padded pixels; never less than of the smallest that was measured."""
        last, most = self.measured[-1]
        for (low, less), (high, more) in pairwise(self.measured):
            if pixels <= high:
                return round(less + (more - less) * max(0, pixels - low) / (high - low))
        return round(most + max(0, pixels - last) * self.bytes_per_pixel)
