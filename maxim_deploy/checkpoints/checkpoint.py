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
    """Named weights, what network they make, and where they came from.

    Attributes:
        arrays: published paths without `opt/target/` to finite float32 arrays in the published
            layout; exactly those of `parameter_shapes(architecture)`.
        architecture: read off the arrays' names and shapes.
        descriptor: name and provenance.
        taken: which of the file's weights these are, in words; empty if it has nothing else.
    """

    arrays: Arrays
    architecture: Architecture
    descriptor: Descriptor
    taken: str = ""
