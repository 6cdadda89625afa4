"""A complete, finite set of weights in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from maxim_deploy.spec.architecture import Architecture
    from maxim_deploy.spec.descriptor import Descriptor

Arrays = dict[str, npt.NDArray[np.float32]]
"""Named weights, each C-contiguous."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Named weights with their architecture and origin.

    Attributes:
        arrays: finite float32 arrays in the published layout by published path without
            `opt/target/`; exactly those of `parameter_shapes(architecture)`.
        architecture: architecture, from the arrays' names and shapes.
        descriptor: name and provenance.
        taken: which set of the file's weights was taken, in words; empty if there is only one.
    """

    arrays: Arrays
    architecture: Architecture
    descriptor: Descriptor
    taken: str = ""
