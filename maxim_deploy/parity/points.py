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
    stages = range(architecture.stages)
    return [p for stage in stages for p in _stage(architecture, stage)] + [Point(RESTORED, "")]


def _stage(architecture: Architecture, stage: int) -> Iterator[Point]:
    groups, name, path = architecture.groups, f"stage_{stage}_", f"stages/{stage}/"
    for level in range(DEPTH):
        if stage:
            yield Point(f"{name}input_fuse_sam_{level}.0", f"{path}fuse/{level}")
        block = f"{name}encoder_block_{level}"
        yield Point(f"{block}/Conv_0", f"{path}open_encoder/{level}")
        yield from _groups(block, f"{path}encoder/{level}/groups", groups, "1")
        yield Point(f"{block}.1", f"{path}encoder/{level}")
    for k in range(architecture.bottleneck_blocks):
        block = f"{name}global_block_{k}"
        yield Point(f"{block}/input_proj", f"{path}open_bottleneck/{k}")
        yield from _groups(block, f"{path}bottleneck/{k}", groups, "1_")
        yield Point(block, f"{path}bottleneck/{k}")
    for level in reversed(range(DEPTH)):
        block = f"{name}cross_gating_block_{level}"
        yield Point(f"{block}/Conv_0", f"{path}open_skip/{level}")
        deepest = level == DEPTH - 1
        enlarged = "enlarge_deepest" if deepest else f"enlarge_gate/{level}"
        yield Point(f"{block}/Conv_1", f"{path}{enlarged}")
        for side in "xy":
            weights = f"{path}skip/{level}/gate/weights_{side}"
            yield Point(f"{block}/SplitHeadMultiAxisGating_{side}", weights)
        yield Point(f"{block}.0", f"{path}skip/{level}")
    for level in reversed(range(DEPTH)):
        block, unet = f"{name}decoder_block_{level}", "UNetEncoderBlock_0"
        yield Point(f"{block}/{unet}/Conv_0", f"{path}open_decoder/{level}")
        yield from _groups(f"{block}/{unet}", f"{path}decoder/{level}", groups, "1")
        yield Point(block, f"{path}decoder/{level}")
    if stage == architecture.stages - 1:
        yield Point(f"{name}output_conv_0", f"{path}output/0")
        return
    for level in range(DEPTH):
        yield Point(f"{name}supervised_attention_module_{level}.0", f"{path}output/{level}")


def _groups(block: str, path: str, groups: int, infix: str) -> Iterator[Point]:
    """The two halves of each group; `infix` is how the published names number the second one."""
    for k in range(groups):
        yield Point(f"{block}/SplitHeadMultiAxisGmlpLayer_{k}", f"{path}/steps/{2 * k}")
        yield Point(f"{block}/channel_attention_block_{infix}{k}", f"{path}/steps/{2 * k + 1}")
