"""The memory of a run as a function of its size, stored with each graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from maxim_deploy.spec.architecture import Architecture

_BYTES_PER_PIXEL = 60
_BYTES_PER_FEATURE = (46.1, 66.3)
"""Typical memory of a run per padded pixel, used if the export measured none: a constant, and an
amount per feature for one stage and for more. Measured on the demo model, S-1 and S-2."""

_FIXED_BYTES = 4_000_000
"""Typical memory of a run that does not depend on its size: code and tables that it touches
first."""


class RunMemory(NamedTuple):
    """Memory of a run, by the padded pixels of all images that run together.

    Attributes:
        measured: (pixels, bytes) of some runs, the smallest first. Values between them are
            interpolated.
        bytes_per_pixel: bytes of each pixel beyond the last pair.
    """

    measured: Sequence[tuple[int, int]]
    bytes_per_pixel: float

    def bytes_for(self, pixels: int) -> int:
        """Bytes of a run on this many padded pixels; at least those of the smallest measured."""
        last, most = self.measured[-1]
        for (low, less), (high, more) in pairwise(self.measured):
            if pixels <= high:
                return round(less + (more - less) * max(0, pixels - low) / (high - low))
        return round(most + max(0, pixels - last) * self.bytes_per_pixel)


def typical_bytes_per_pixel(architecture: Architecture) -> float:
    """Typical bytes per padded pixel of a run in float32, for a graph without measurements."""
    per_feature = _BYTES_PER_FEATURE[min(architecture.stages, 2) - 1]
    return _BYTES_PER_PIXEL + architecture.features * per_feature


def typical_run_memory(architecture: Architecture) -> RunMemory:
    """Typical memory of a run in float32, for a graph without measurements."""
    return RunMemory([(0, _FIXED_BYTES)], typical_bytes_per_pixel(architecture))
