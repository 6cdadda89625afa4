"""Memory of OpenVINO's compiled forms and of their runs.

OpenVINO places tensors when it compiles, so the memory of a run is linear in its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.runtime.openvino_layouts import MOST_PIXELS
from maxim_deploy.spec.architecture import Architecture

BYTES_PER_FEATURE = (45.0, 57.9)
"""Bytes of a run per padded pixel and feature, for one stage and for more. The demo model takes 360
bytes per pixel, S-2 takes 1850, both equally from 64x64 to 256x256."""

FORM = (20_000_000, 2.85)
"""Memory of a form: bytes of kernels and tables, and weights with packed copies as a multiple of
the file of weights. The demo model takes 24 to 42 MB (4.9 MB of weights), S-2 155 to 190 (55 MB). A
form that was read from a file is the smaller one for the demo model and the larger one for S-2."""

MAKING = (29_000_000, 5.7)
"""Peak while a form is made, by leftovers of compiling or copies of a file: 53 MB (demo model), 280
to 340 (S-2), 360 to 380 on a processor with AMX. A run of more than 256x256 takes more."""


@dataclass(frozen=True)
class ShapeMemory:
    """Memory of a network in bytes.

    Attributes:
        architecture: architecture of the network.
        weights: size of its file of weights.
    """

    architecture: Architecture
    weights: int

    @property
    def form(self) -> int:
        """Bytes of the network compiled for one shape. They do not depend on the shape."""
        return round(FORM[0] + FORM[1] * self.weights)

    @property
    def making(self) -> int:
        """Peak bytes while a form is made."""
        return round(MAKING[0] + MAKING[1] * self.weights)

    def run(self, pixels: int) -> int:
        """Bytes of a run on this many padded pixels, including its result."""
        per_feature = BYTES_PER_FEATURE[min(self.architecture.stages, 2) - 1]
        if pixels <= MOST_PIXELS and self.architecture.stages > 1:
            per_feature += 4  # one more of the largest maps; see `openvino_layouts`
        return round(per_feature * self.architecture.features * pixels)

    def peak(self, pixels: int) -> int:
        """Bytes of a run whose form must be made first."""
        return max(self.form + self.run(pixels), self.making)
