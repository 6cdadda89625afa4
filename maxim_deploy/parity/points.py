"""Where two forms of one network can be compared: points at which both have the same tensor.

A point is named after the literal network's module, `stage_0_encoder_block_1/Conv_0`; of a module
with several results with the index behind it, as `stage_0_encoder_block_1.1`. The deployment form
folds linear layers into each other, so it has no tensor for most modules: listed are those where
both sides have multiplied out everything that precedes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from maxim_deploy.spec.architecture import DEPTH, Architecture
from maxim_deploy.spec.places import published_name

RESTORED = "restored"
"""The point at the end."""


class Point(NamedTuple):
    """One tensor in both forms.

    Attributes:
        name: in the literal form, with the index of the result if there are several.
        deployment: path of the module in the deployment form.
        result: which of that module's results, if there are several.
    """

    name: str
    deployment: str
    result: int = 0


def points_of(architecture: Architecture) -> list[Point]:
    """All points of a network, in the order in which the literal form reaches them."""
    paths = (path for stage in range(architecture.stages) for path in _paths(stage, architecture))
    # In the order of execution: the first point that differs is where the fault lies.
    return [*(_point(path, architecture) for path in paths), Point(RESTORED, "")]


def _point(path: str, architecture: Architecture) -> Point:
    """The point at a module of the deployment form, which has several results if so marked."""
    path, _, result = path.partition(".")
    name = published_name(path, architecture.stages)
    # For mypy: every path made below has a published name, and a test walks all of them.
    assert name is not None
    # A decoder block returns what its encoder block does, and is the better known of the two.
    name = name.removesuffix("/UNetEncoderBlock_0")
    return Point(f"{name}.{result}" if result else name, path)


def _paths(stage: int, architecture: Architecture) -> Iterator[str]:
    """Modules of the deployment form; behind a dot the literal module's result."""
    path, groups = f"stages/{stage}", architecture.groups
    for level in range(DEPTH):
        if stage:
            yield f"{path}/fuse/{level}.0"
        yield f"{path}/open_encoder/{level}"
        yield from _steps(f"{path}/encoder/{level}/groups", groups)
        yield f"{path}/encoder/{level}.1"
    for k in range(architecture.bottleneck_blocks):
        yield f"{path}/open_bottleneck/{k}"
        yield from _steps(f"{path}/bottleneck/{k}", groups)
        yield f"{path}/bottleneck/{k}"
    for level in reversed(range(DEPTH)):
        yield f"{path}/open_skip/{level}"
        deepest = level == DEPTH - 1
        yield f"{path}/enlarge_deepest" if deepest else f"{path}/enlarge_gate/{level}"
        yield from (f"{path}/skip/{level}/gate/weights_{side}" for side in "xy")
        yield f"{path}/skip/{level}.0"
    for level in reversed(range(DEPTH)):
        yield f"{path}/open_decoder/{level}"
        yield from _steps(f"{path}/decoder/{level}", groups)
        yield f"{path}/decoder/{level}"
    if stage == architecture.stages - 1:
        yield f"{path}/output/0"
        return
    yield from (f"{path}/output/{level}.0" for level in range(DEPTH))


def _steps(path: str, groups: int) -> Iterator[str]:
    """The two halves of each group."""
    return (f"{path}/steps/{k}" for k in range(2 * groups))
