"""Which block of the published network a node of a graph belongs to.

Names follow modules: `stages/0/encoder/1/...` in the deployment form, which is the published
network's `stage_0_encoder_block_1/...` in the literal one. Where a rewrite has folded two blocks
into one operator, the node belongs to the block that it opens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto

PARTS = (
    "image form",
    "input",
    "input fusion",
    "encoder",
    "bottleneck",
    "cross gating",
    "decoder",
    "supervised attention",
    "output",
)
"""In the order of the data. "image form": scaling, padding, cropping and rounding around the
network. "input": the smaller copies of the image, and the sizes that everything is reshaped to.
"input fusion": cross gating of the image's features with those of the stage before."""

_PUBLISHED = {
    "input fusion": "input_fuse_sam",
    "encoder": "encoder_block",
    "bottleneck": "global_block",
    "cross gating": "cross_gating_block",
    "decoder": "decoder_block",
    "supervised attention": "supervised_attention_module",
    "output": "output_conv",
}
_UPWARDS = ("cross gating", "decoder")
"""Parts that begin at the deepest level."""


@dataclass(frozen=True)
class Place:
    """A place in the published network.

    Attributes:
        stage: 1, 2 or 3; None outside of all stages.
        part: one of `PARTS`.
        level: 0 is full size, 2 a quarter; of the bottleneck, the number of its block; None outside
            of all stages.
        block: inside of the part: "opening" (the 1x1 convolution at its beginning, with whatever
            is resized or folded into it), "multi-axis gMLP", "channel attention", "cross gating",
            "down-sampling", or "" for the rest.
    """

    stage: int | None
    part: str
    level: int | None
    block: str = ""

    @property
    def published(self) -> str | None:
        """Name of the module in the published network; None outside of all modules."""
        if self.stage is None or self.part not in _PUBLISHED:
            return None
        return f"stage_{self.stage - 1}_{_PUBLISHED[self.part]}_{self.level}"

    @property
    def name(self) -> str:
        """Of the block, or of the part where it has none."""
        has_blocks = self.part in ("encoder", "bottleneck", "decoder")
        return self.block or (f"rest of {self.part}" if has_blocks else self.part)

    @property
    def order(self) -> tuple[int, int, int, str]:
        """To sort by: along the data, the image form and the input first."""
        level = self.level or 0
        part = PARTS.index(self.part)
        return (self.stage or 0, part, -level if self.part in _UPWARDS else level, self.block)

    def __str__(self) -> str:
        if self.stage is None:
            return self.part
        word = "block" if self.part == "bottleneck" else "level"
        return f"stage {self.stage} {self.part}, {word} {self.level}"


INPUT = Place(None, "input", None)
IMAGE_FORM = Place(None, "image form", None)

_IMAGE_FORM = re.compile(r"(pad|scale|crop|quantise)/")
_DEPLOYMENT = re.compile(r"stages/(\d+)/([a-z_]+)/?(.*)")
_LITERAL = re.compile(r"stage_(\d+)_([a-z_]+?)_(\d+)/(.*)")
_RATIO = re.compile(r"UpSampleRatio_(\d+)/")

_SCOPES = {
    "fuse": "input fusion",
    "open_encoder": "encoder",
    "encoder": "encoder",
    "open_bottleneck": "bottleneck",
    "bottleneck": "bottleneck",
    "open_skip": "cross gating",
    "enlarge_gate": "cross gating",
    "skip": "cross gating",
    "open_decoder": "decoder",
    "enlarge_decoded": "decoder",
    "decoder": "decoder",
    "output": "output",
}
_MODULES = {name: part for part, name in _PUBLISHED.items()} | {"input_conv": "encoder"}
_OPENINGS = ("open_", "enlarge_")
_BLOCKS = (
    (r"SplitHeadMultiAxisGmlpLayer", "multi-axis gMLP"),
    (r"channel_attention_block", "channel attention"),
    (r"SplitHeadMultiAxisGating|cross_gating_block", "cross gating"),
    (r"Conv_|ConvTranspose_|input_proj|Concat", "opening"),
)


def places_of(graph: GraphProto) -> dict[str, Place]:
    """The place of every node of a graph of ours, by its name.

    A node outside of all modules, such as the Split of what a module returned, belongs to where its
    input comes from; one on the image itself to "input".
    """
    last = max((_stage(node.name) for node in graph.node), default=-1)
    places: dict[str, Place] = {}
    maker: dict[str, Place] = {}
    for node in graph.node:
        place = place_of_name(node.name, last) or _upstream(node.input, maker)
        places[node.name] = place
        maker.update(dict.fromkeys(node.output, place))
    return places


def place_of_name(name: str, last_stage: int) -> Place | None:
    """The place that a node's name tells; None if it is outside of all modules.

    Args:
        name: of a node of the deployment or the literal form.
        last_stage: number of the network's last stage, from 0. The others end in supervised
            attention where this one has its outputs.
    """
    if _IMAGE_FORM.match(name):
        return IMAGE_FORM
    if match := _DEPLOYMENT.match(name):
        return _in_deployment(int(match[1]), match[2], match[3], last_stage)
    if match := _LITERAL.match(name):
        return _in_literal(int(match[1]), match[2], int(match[3]), match[4])
    if match := _RATIO.match(name):  # per stage 9 that feed the cross gating, then 9 the decoder
        stage, number = divmod(int(match[1]), 18)
        part = "cross gating" if number < 9 else "decoder"
        return Place(stage + 1, part, 2 - number % 9 // 3, "opening")
    return None


def _stage(name: str) -> int:
    match = _DEPLOYMENT.match(name) or _LITERAL.match(name)
    return int(match[1]) if match else -1


def _upstream(inputs: Iterable[str], maker: Mapping[str, Place]) -> Place:
    for name in inputs:
        place = maker.get(name, IMAGE_FORM)
        if place not in (IMAGE_FORM, INPUT):
            return place
    return INPUT


def _in_deployment(stage: int, scope: str, rest: str, last_stage: int) -> Place | None:
    if scope == "enlarge_deepest":  # feeds both the gate and the decoder of level 2
        return Place(stage + 1, "cross gating", 2, "opening")
    number, _, inside = rest.partition("/")
    if scope not in _SCOPES or not number.isdigit():
        return None
    part, block = _SCOPES[scope], ""
    if scope.startswith(_OPENINGS) or (scope, inside.split("/")[0]) == ("fuse", "image"):
        block = "opening"
    elif match := re.match(r"(?:groups/)?steps/(\d+)/", inside):
        block = "channel attention" if int(match[1]) % 2 else "multi-axis gMLP"
    elif part in ("input fusion", "cross gating") or re.match(r"gate/|open_[xy]/", inside):
        block = "cross gating"
    elif part == "output" and stage < last_stage:
        part = "supervised attention"
    return Place(stage + 1, part, int(number), block)


def _in_literal(stage: int, module: str, level: int, inside: str) -> Place | None:
    if module not in _MODULES:
        return None
    part = _MODULES[module]
    if module == "input_conv":
        return Place(stage + 1, "input fusion" if stage else "encoder", level, "opening")
    if part == "encoder" and inside.startswith("Conv_1"):
        return Place(stage + 1, part, level, "down-sampling")
    if part in ("supervised attention", "output"):
        return Place(stage + 1, part, level)
    rest = "cross gating" if part in ("input fusion", "cross gating") else ""
    block = next((name for pattern, name in _BLOCKS if re.search(pattern, inside)), rest)
    return Place(stage + 1, part, level, block)
