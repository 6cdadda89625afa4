"""Common code of all file types: the contents of a file, and valid types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maxim_deploy.checkpoints.selection import Selection
from maxim_deploy.errors import CheckpointError, shown

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.checkpoint import Arrays
    from maxim_deploy.checkpoints.layout import Shapes


@dataclass(frozen=True)
class Stored:
    """The claimed contents of a file. Data are read later, after checks.

    Attributes:
        shapes: shapes of the weights by `Selection.names`.
        selection: place of the weights in the file.
        read: returns the weights, or raises `CheckpointError`.
        metadata: metadata of safetensors.
    """

    shapes: Shapes
    selection: Selection
    read: Callable[[], Arrays]
    metadata: dict[str, str] = field(default_factory=dict)


def as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An array of floats as C-contiguous float32. A float64 that is too large becomes infinite."""
    # `check_finite` names the parameter with the infinity. NumPy's warning would name our code.
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=np.float32, order="C")


def not_floating(name: str, kind: object) -> CheckpointError:
    """The error for an entry that is not an array of floats."""
    return CheckpointError(
        f"parameter {shown(name)} is of type {kind}; expected float32, or float16, bfloat16 or "
        "float64 to convert"
    )
