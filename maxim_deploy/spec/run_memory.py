"""How much memory a run takes, by its size: a value that travels with a graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from maxim_deploy.spec.architecture import Architecture

_BYTES_PER_PIXEL = 60
_BYTES_PER_FEATURE = (46.1, 66.3)
"""Memory of a run per padded pixel where none was measured at export: so much, and so much for each
feature of a network of one stage and of more. From measurements on the demo model, S-1 and S-2."""

_FIXED_BYTES = 4_000_000
"""What it takes whatever its size, likewise: code and tables that are first touched in it."""


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


def typical_bytes_per_pixel(architecture: Architecture) -> float:
    """Memory that a run in float32 takes per padded pixel, for a graph that nobody measured."""
    per_feature = _BYTES_PER_FEATURE[min(architecture.stages, 2) - 1]
    return _BYTES_PER_PIXEL + architecture.features * per_feature


def typical_run_memory(architecture: Architecture) -> RunMemory:
    """Memory of a run in float32 of a graph that nobody measured."""
    return RunMemory([(0, _FIXED_BYTES)], typical_bytes_per_pixel(architecture))
