"""What every kind of file has in common: which entries count, and of what type they may be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maxim_deploy.errors import CheckpointError

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.checkpoint import Arrays

PREFIX = "opt/target/"
"""In front of the parameters in published files; what is elsewhere is optimiser state."""


@dataclass(frozen=True)
class Stored:
    """The content of a file: arrays under its own names without `PREFIX`, safetensors metadata."""

    arrays: Arrays
    metadata: dict[str, str] = field(default_factory=dict)


def parameter_names(names: Collection[str]) -> dict[str, str]:
    """The names that count, without `PREFIX`, to the names in the file.

    Where anything is below `PREFIX` only that counts, otherwise everything does.

    Raises:
        CheckpointError: there is nothing but optimiser state.
    """
    below = {name.removeprefix(PREFIX): name for name in names if name.startswith(PREFIX)}
    if not below and any(name.startswith("opt/") for name in names):
        raise CheckpointError(
            f"none of its {len(names):,} entries is below {PREFIX!r}: this is optimiser state "
            "without parameters; take the file that was saved with them"
        )
    return below or {name: name for name in names}


def as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An array of floats as float32, C-contiguous; too large a float64 becomes an infinity."""
    # `check_finite` names the parameter of such an infinity; NumPy's warning names a line of ours.
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=np.float32, order="C")


def not_floating(name: str, kind: object) -> CheckpointError:
    """The error for an entry that is not an array of floats."""
    return CheckpointError(
        f"parameter {name!r} is of type {kind}; expected float32, or float16, bfloat16 or float64 "
        "to convert"
    )
