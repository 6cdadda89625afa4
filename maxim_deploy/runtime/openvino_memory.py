"""Memory of OpenVINO's compiled forms and of their runs.

It places tensors when it compiles, so that the memory of a run is a line in its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.spec.architecture import Architecture

BYTES_PER_FEATURE = (45.0, 57.9)
"""Of a run per padded pixel, for each feature of a network of one stage and of more: 360 bytes
(demo model), 1850 (S-2), the same from 64x64 to 256x256."""

FORM = (20_000_000, 2.85)
"""Of a form: kernels and tables, and the weights with their packed copies, in bytes and as a share
of the file of weights: 24 to 42 MB (demo model, 4.9 MB of weights), 155 to 190 (S-2, 55). A form
that was read from a file is the smaller one of the demo model, and the larger one of S-2."""

MAKING = (33_000_000, 5.0)
"""At most while a form is made: what compiling leaves, or the copies of a file that is read. 53 MB
(demo model), 280 to 340 (S-2). A run of more than 256x256 takes more."""


@dataclass(frozen=True)
class ShapeMemory:
    """What a network takes, in bytes.

    Attributes:
        architecture: of the network.
        weights: size of the file of its weights.
    """

    architecture: Architecture
    weights: int

    @property
    def form(self) -> int:
        """Of the network compiled for one shape, whatever the shape."""
        return round(FORM[0] + FORM[1] * self.weights)

    def run(self, pixels: int) -> int:
        """Of a run on so many padded pixels, its result included."""
        per_feature = BYTES_PER_FEATURE[min(self.architecture.stages, 2) - 1]
        return round(per_feature * self.architecture.features * pixels)

    def peak(self, pixels: int) -> int:
        """Of a run whose form must be made first."""
        making = round(MAKING[0] + MAKING[1] * self.weights)
        return max(self.form + self.run(pixels), making)
