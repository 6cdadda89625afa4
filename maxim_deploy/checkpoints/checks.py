"""Whether named arrays make a complete and finite MAXIM. All that is wrong is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import eq
from typing import TYPE_CHECKING

import numpy as np

from maxim_deploy.errors import CheckpointError, nearest, shown
from maxim_deploy.spec.architecture import Architecture, architecture_of

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.checkpoint import Arrays

Shape = tuple[int, ...]

_MOST, _LONGEST_LINE = 50, 400
"""Of a list in a message."""

MOST_BYTES = 4 * 8 * 67_000_000
"""M-3, the largest network that we know, has 67 million parameters."""


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
    """Raise `CheckpointError` that names missing and unexpected parameters, `_MOST` of each."""
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    if missing or unexpected:
        # Split once, not per hint: both lists may have thousands of names.
        parts = {name: _reversed_parts(name) for name in missing}
        lines = [
            f"this is not a complete MAXIM {architecture}: of {len(expected):,} parameters "
            f"{len(missing):,} are missing, and {len(unexpected):,} are unexpected; "
            "restore or rename them:",
            *_listed(missing, lambda name: f"  missing: {name}"),
            *_listed(unexpected, lambda name: f"  unexpected: {name}{_hint(name, parts)}"),
        ]
        raise CheckpointError("\n".join(lines))


def check_shapes(
    found: Mapping[str, Shape],
    accepted: Mapping[str, tuple[Shape, ...]],
    name_of: Callable[[str], str],
) -> None:
    """Raise `CheckpointError` that names `_MOST` arrays of a wrong shape; the names are the same.

    Args:
        found: shapes by published path.
        accepted: the shapes that each may have, the usual one first.
        name_of: the file's name of a path.
    """
    wrong = [path for path, shapes in accepted.items() if found[path] not in shapes]
    if wrong:
        lines = [
            f"{len(wrong):,} of {len(accepted):,} parameters have a wrong shape:",
            *_listed(
                wrong,
                lambda path: (
                    f"  {name_of(path)}: found {shown(found[path])}, expected {accepted[path][0]}"
                ),
            ),
        ]
        raise CheckpointError("\n".join(lines))


def check_bytes(found: int) -> None:
    """Raise `CheckpointError` if weights of so many bytes are more than any network has."""
    if found > MOST_BYTES:
        raise CheckpointError(
            f"its weights have {found:,} bytes; expected at most {MOST_BYTES:,}, four times what "
            "the largest MAXIM has in float64"
        )


def check_finite(arrays: Arrays) -> None:
    """Raise `CheckpointError` that names `_MOST` arrays with a NaN or an infinity, and counts."""
    # After the cast to float32, in which a finite float64 can become infinite.
    finite = {path: np.isfinite(array) for path, array in arrays.items()}
    wrong = [path for path, mask in finite.items() if not mask.all()]
    if wrong:
        lines = [
            f"{len(wrong):,} of {len(arrays):,} parameters have values that are NaN or infinite as "
            "float32; the training or the copy went wrong, take another file:"
        ]
        lines += _listed(
            wrong,
            lambda path: (
                f"  {path}: {np.count_nonzero(~finite[path]):,} of {finite[path].size:,} values"
            ),
        )
        raise CheckpointError("\n".join(lines))


def _listed(items: Sequence[str], line: Callable[[str], str]) -> list[str]:
    """A line for each of the first; lines and their hints cost time, and a file may name a million.

    A name is cut where it is long.
    """
    more = [f"  and {len(items) - _MOST:,} more"] if len(items) > _MOST else []
    return [line(item)[:_LONGEST_LINE] for item in items[:_MOST]] + more


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
