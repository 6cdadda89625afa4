"""Results in 8 bits: what rounding has taken from them, and how they are compared all the same.

A network of the image form rounds to nearest by itself. A folder's pictures are taken as truncated,
as the published scripts save them, and half a level is added; or their rounding is named, and the
other result is rounded in the same way, to be compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maxim_deploy.errors import UsageError
from maxim_deploy.imaging import Rounding, from_unit, to_unit
from maxim_deploy.parity.comparison import LEVELS, Pixels
from maxim_deploy.parity.stage import Stage
from maxim_deploy.parity.stored import Folder
from maxim_deploy.spec.precision import FULL


def check_rounding(a: Stage, b: Stage, rounding: Rounding | None) -> None:
    """Whether two stages can be compared by a rounding.

    Raises:
        UsageError: they cannot.
    """
    if rounding and not isinstance(a, Folder) and not isinstance(b, Folder):
        raise UsageError(
            f"--rounding {rounding} | says how the pictures of a folder were saved | neither "
            f"{a.name!r} nor {b.name!r} is one"
        )
    for stage in (a, b):
        check_truncation(stage, rounding)


def check_truncation(stage: Stage, rounding: Rounding | None) -> None:
    """Whether the results of a stage can be truncated, if that is asked for.

    Raises:
        UsageError: they have been rounded to nearest.
    """
    if rounding == "truncate" and stage.is_8bit and not isinstance(stage, Folder):
        raise UsageError(
            f"--rounding truncate | {stage.name!r} rounds to nearest itself | take a stage of the "
            f"tensor form, such as BUNDLE:{FULL}, or leave --rounding out"
        )


def is_one_truncated(a: Stage, b: Stage, rounding: Rounding | None) -> bool:
    """Whether a folder's pictures, taken as truncated, meet results that are not."""
    return rounding is None and isinstance(a, Folder) != isinstance(b, Folder)


def comparable(
    a: Stage, b: Stage, results: Sequence[Pixels], rounding: Rounding | None
) -> tuple[Pixels, Pixels]:
    """The results of two stages; what one in 8 bits has lost, the other loses too."""
    pair = [*results]
    if a.is_8bit != b.is_8bit:
        other = 1 if a.is_8bit else 0
        # Clipping would turn an infinity into a white pixel, and hide it.
        if not np.isfinite(pair[other]).all():
            return pair[0], pair[1]
        pair[other] = np.clip(pair[other], 0, 1)
        if rounding:
            pair[other] = to_unit(from_unit(pair[other], np.dtype(np.uint8), rounding))
    if is_one_truncated(a, b, rounding):
        folder = 0 if isinstance(a, Folder) else 1
        # Truncation takes between nothing and a whole level: half of one on average.
        pair[folder] = pair[folder] + np.float32(0.5 / LEVELS)
    return pair[0], pair[1]
