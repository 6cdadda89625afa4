"""What every kind of file has in common: which entries count, and of what type they may be."""

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
    """What a file says that it holds; the data are read later, once the rest has been checked.

    Attributes:
        shapes: of the weights, by `Selection.names`.
        selection: where in the file they are.
        read: gives the weights; raises `CheckpointError`.
        metadata: of safetensors.
    """

    shapes: Shapes
    selection: Selection
    read: Callable[[], Arrays]
    metadata: dict[str, str] = field(default_factory=dict)


def as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An array of floats as float32, C-contiguous; too large a float64 becomes an infinity."""
    # `check_finite` names the parameter of such an infinity; NumPy's warning names a line of ours.
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=np.float32, order="C")


def not_floating(name: str, kind: object) -> CheckpointError:
    """The error for an entry that is not an array of floats."""
    return CheckpointError(
        f"parameter {shown(name)} is of type {kind}; expected float32, or float16, bfloat16 or "
        "float64 to convert"
    )
