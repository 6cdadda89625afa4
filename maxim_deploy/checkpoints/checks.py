"""Check that named arrays form a complete and finite MAXIM. All problems are reported at once."""

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
"""Most items of a list in a message."""

MOST_BYTES = 4 * 8 * 67_000_000
"""Most bytes of weights. M-3, the largest known network, has 67 million parameters."""


def check_variant(found: Architecture, variant: str | None) -> None:
    """Raise `CheckpointError` with both values if the weights are of another variant."""
    if variant is not None and found != architecture_of(variant):
        raise CheckpointError(
            f"the weights are {found}, but the variant requested is {architecture_of(variant)}; "
            "omit the variant, or take another file"
        )


def check_names(
    found: Collection[str], expected: Collection[str], architecture: Architecture
) -> None:
    """Raise `CheckpointError` that names up to `_MOST` missing and unexpected parameters each."""
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    if missing or unexpected:
        # Split once rather than per hint: both lists may have thousands of names.
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
    """Raise `CheckpointError` that names up to `_MOST` arrays of a wrong shape. The names agree.

    Args:
        found: shapes by published path.
        accepted: valid shapes of each array, the usual one first.
        name_of: converts a path to its name in the file.
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
    """Raise `CheckpointError` if the weights have more bytes than any network."""
    if found > MOST_BYTES:
        raise CheckpointError(
            f"its weights have {found:,} bytes; expected at most {MOST_BYTES:,}, four times the "
            "size of the largest MAXIM in float64"
        )


def check_finite(arrays: Arrays) -> None:
    """Raise `CheckpointError` with counts that names up to `_MOST` arrays with NaN or infinity."""
    # After the cast to float32, where a finite float64 can become infinite.
    finite = {path: np.isfinite(array) for path, array in arrays.items()}
    wrong = [path for path, mask in finite.items() if not mask.all()]
    if wrong:
        lines = [
            f"{len(wrong):,} of {len(arrays):,} parameters have NaN or infinite values in "
            "float32; the training or the copy failed, so take another file:"
        ]
        lines += _listed(
            wrong,
            lambda path: (
                f"  {path}: {np.count_nonzero(~finite[path]):,} of {finite[path].size:,} values"
            ),
        )
        raise CheckpointError("\n".join(lines))


def _listed(items: Sequence[str], line: Callable[[str], str]) -> list[str]:
    """Lines for the first items. Lines with hints take time, and a file may have a million names.

    Long names are shortened.
    """
    more = [f"  and {len(items) - _MOST:,} more"] if len(items) > _MOST else []
    return [line(item)[:_LONGEST_LINE] for item in items[:_MOST]] + more


def _hint(name: str, missing: Mapping[str, list[str]]) -> str:
    """A hint with the missing name that `name` most likely means, or an empty string.

    Names are first compared by modules, from the end. A comparison by letters alone would take
    minutes for hundreds of names. If less than half of the modules agree, there is no hint.
    """
    parts = _reversed_parts(name)
    same = {other: sum(map(eq, parts, others)) for other, others in missing.items()}
    best = max(same.values(), default=0)
    if 2 * best < len(parts):
        return ""
    return nearest(name, [other for other, count in same.items() if count == best])


def _reversed_parts(name: str) -> list[str]:
    return name.replace(".", "/").split("/")[::-1]
