"""Read the architecture from the names and shapes of the weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields

from maxim_deploy.errors import CheckpointError, UsageError, nearest, shown
from maxim_deploy.spec.architecture import VARIANTS, Architecture


def architecture_from_shapes(
    shapes: Mapping[str, tuple[int, ...]], in_file: Callable[[str], str] = str
) -> Architecture:
    """The architecture of a set of parameters, which may be incomplete.

    `features` is the length of the first convolution's bias. The other fields are numbers of
    modules, counted from 0 without a gap.

    Args:
        shapes: parameter paths without `opt/target/` to shapes.
        in_file: converts a path to its name in the file, for messages.

    Raises:
        CheckpointError: a required key is missing or has an invalid shape.
    """
    key = "stage_0_input_conv_0/bias"
    if key not in shapes:
        raise CheckpointError(
            f"this is not a MAXIM: the parameter {in_file(key)!r}, whose length is the number of "
            f"features, is missing among the {len(shapes):,} "
            f"found{nearest(in_file(key), map(in_file, shapes))}"
        )
    name = in_file(key)
    if len(shapes[key]) != 1:
        raise CheckpointError(
            f"{name!r} has shape {shown(shapes[key])}; expected one axis, (features,)"
        )
    try:
        found = Architecture(
            features=shapes[key][0],
            stages=_count(shapes, "stage_", "_"),
            groups=_count(shapes, "stage_0_encoder_block_0/SplitHeadMultiAxisGmlpLayer_", "/"),
            bottleneck_blocks=_count(shapes, "stage_0_global_block_", "/"),
        )
    except UsageError as error:
        raise CheckpointError(f"{name!r} has shape {shown(shapes[key])}: {error}") from error
    for field, most in _MOST.items():
        if getattr(found, field) > most:
            raise CheckpointError(
                f"this is not a known MAXIM: {found}; expected at most {most} {field}"
            )
    return found


_MOST = {
    field.name: 2 * max(getattr(known, field.name) for known in VARIANTS.values())
    for field in fields(Architecture)
}
"""Twice the largest known network. For larger ones a list of missing parameters would take
minutes."""


def _count(paths: Iterable[str], before: str, after: str) -> int:
    """The number of `{before}0{after}`, `{before}1{after}`, ...

    that begin a path, without a gap.
    """
    found = {p[len(before) :].split(after)[0] for p in paths if p.startswith(before)}
    count = next(number for number in itertools.count() if str(number) not in found)
    if not count:
        raise CheckpointError(f"this is not a MAXIM: no parameter begins with '{before}0{after}'")
    return count
