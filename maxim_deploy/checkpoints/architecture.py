"""The architecture, read off the names and shapes of the weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields

from maxim_deploy.errors import CheckpointError, UsageError, nearest, shown
from maxim_deploy.spec.architecture import VARIANTS, Architecture


def architecture_from_shapes(
    shapes: Mapping[str, tuple[int, ...]], in_file: Callable[[str], str] = str
) -> Architecture:
    """The architecture that a set of parameters belongs to, complete or not.

    `features` is the length of the first convolution's bias; the other fields are how many modules
    of a kind there are, numbered from 0 without a gap.

    Args:
        shapes: parameter paths without `opt/target/` to shapes.
        in_file: what a path is called in the file, for messages.

    Raises:
        CheckpointError: a telling key is missing or has no sensible shape.
    """
    key = "stage_0_input_conv_0/bias"
    if key not in shapes:
        raise CheckpointError(
            f"this is no MAXIM: the parameter {in_file(key)!r}, whose length is the number of "
            f"features, is not among the {len(shapes):,} found"
            f"{nearest(in_file(key), map(in_file, shapes))}"
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
                f"this is no MAXIM that is known: {found}; expected at most {most} {field}"
            )
    return found


_MOST = {
    field.name: 2 * max(getattr(known, field.name) for known in VARIANTS.values())
    for field in fields(Architecture)
}
"""Twice the largest network that we know: a list of what a larger one lacks would take minutes."""


def _count(paths: Iterable[str], before: str, after: str) -> int:
    """How many of `{before}0{after}`, `{before}1{after}`, ... begin a path, without a gap."""
    found = {p[len(before) :].split(after)[0] for p in paths if p.startswith(before)}
    count = next(number for number in itertools.count() if str(number) not in found)
    if not count:
        raise CheckpointError(f"this is no MAXIM: no parameter begins with '{before}0{after}'")
    return count
