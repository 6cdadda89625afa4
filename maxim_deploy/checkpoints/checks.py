"""Whether named arrays make a complete and finite MAXIM. All that is wrong is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from operator import eq
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maxim_deploy.errors import CheckpointError, nearest
from maxim_deploy.spec.architecture import Architecture, architecture_of

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.checkpoint import Arrays

Shape = tuple[int, ...]


def check_variant(found: Architecture, variant: str | None) -> None:
    """Raise `CheckpointError` with both values if the weights are not of that variant."""
    if variant is not None and found != architecture_of(variant):
        raise CheckpointError(
            f"the weights are {found}, but the variant asked for is {architecture_of(variant)}; "
            "leave the variant out, or take another file"
        )


def check_names(
    found: Collection[str], expected: Collection[str], architecture: Architecture
) -> None:
    """Raise `CheckpointError` that names every missing and every unexpected parameter."""
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    if missing or unexpected:
        parts = {name: _reversed_parts(name) for name in missing}
        lines = [
            f"this is not a complete MAXIM {architecture}: of {len(expected):,} parameters "
            f"{len(missing):,} are missing, and {len(unexpected):,} are unexpected; "
            "restore or rename them:",
            *(f"  missing: {name}" for name in missing),
            *(f"  unexpected: {name}{_hint(name, parts)}" for name in unexpected),
        ]
        raise CheckpointError("\n".join(lines))


def check_shapes(
    arrays: Mapping[str, npt.NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    told: Callable[[str], tuple[str, Shape, Shape]],
) -> None:
    """Raise `CheckpointError` that names every array of a wrong shape; the names are the same.

    Args:
        arrays: by published path, in published layout.
        shapes: that they should have.
        told: of a path, the file's name of the array, the shape found there and the one expected.
    """
    wrong = [path for path, shape in shapes.items() if arrays[path].shape != shape]
    if wrong:
        lines = [f"{len(wrong):,} of {len(shapes):,} parameters have a wrong shape:"]
        for name, found, expected in map(told, wrong):
            lines.append(f"  {name}: found {found}, expected {expected}")
        raise CheckpointError("\n".join(lines))


def check_finite(arrays: Arrays) -> None:
    """Raise `CheckpointError` that names every array with a NaN or an infinity, with counts."""
    finite = {path: np.isfinite(array) for path, array in arrays.items()}
    wrong = [path for path, mask in finite.items() if not mask.all()]
    if wrong:
        lines = [
            f"{len(wrong):,} of {len(arrays):,} parameters have values that are NaN or infinite as "
            "float32; the training or the copy went wrong, take another file:"
        ]
        for path in wrong:
            count, size = np.count_nonzero(~finite[path]), finite[path].size
            lines.append(f"  {path}: {count:,} of {size:,} values")
        raise CheckpointError("\n".join(lines))


def _hint(name: str, missing: Mapping[str, list[str]]) -> str:
    """The missing name that `name` most likely stands for, ready to append, or an empty string.

    Names are compared module by module from the end first: letter by letter alone, hundreds against
    hundreds would take minutes. Where less than half of the modules agree, no guess is worth that.
    """
    parts = _reversed_parts(name)
    same = {other: sum(map(eq, parts, others)) for other, others in missing.items()}
    best = max(same.values(), default=0)
    if 2 * best < len(parts):
        return ""
    return nearest(name, [other for other, count in same.items() if count == best])


def _reversed_parts(name: str) -> list[str]:
    return name.replace(".", "/").split("/")[::-1]
