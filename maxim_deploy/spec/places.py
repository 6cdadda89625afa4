"""Find the block of the published network that a graph's node belongs to.

Node names follow modules. The literal form has the published names, `stage_0_encoder_block_1/...`.
The deployment form has `stages/0/encoder/1/...`, which `published_name` translates. If a rewrite
folds two blocks into one operator, its node belongs to the later block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from maxim_deploy.spec.architecture import DEPTH

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
"""All parts, in the order of the data. "image form": scaling, padding, cropping and rounding around
the network. "input": the smaller copies of the image, and the sizes for reshaping. "input fusion":
cross gating of the image's features with those of the previous stage."""

_UPWARDS = ("cross gating", "decoder")
"""Parts that begin at the deepest level."""


@dataclass(frozen=True)
class Place:
    """A place in the published network.

    Attributes:
        stage: 1, 2 or 3; None outside of all stages.
        part: one of `PARTS`.
        level: 0 is full size, 2 a quarter. In the bottleneck it is the number of the block. None
            outside of all stages.
        block: block within the part: "opening" (its first 1x1 convolution, with resizes and folded
            layers), "multi-axis gMLP", "channel attention", "cross gating", "down-sampling", or ""
            for the rest.
    """

    stage: int | None
    part: str
    level: int | None
    block: str = ""

    @property
    def name(self) -> str:
        """The name of the block, or of the part if the place has no block."""
        has_blocks = self.part in ("encoder", "bottleneck", "decoder")
        return self.block or (f"rest of {self.part}" if has_blocks else self.part)

    @property
    def order(self) -> tuple[int, int, int, str]:
        """A sort key along the data; the image form and the input come first."""
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
_DEPLOYMENT = re.compile(r"stages/(\d+)/([a-z_]+)/(\d+)/?(.*)")
_LITERAL = re.compile(r"stage_(\d+)_([a-z_]+?)_(\d+)/?(.*)")
_RATIO = re.compile(r"UpSampleRatio_(\d+)/")
_STAGE = re.compile(r"stages?[/_](\d+)[/_]")

_SCOPES = {
    "fuse": "input_fuse_sam_{}",
    "open_encoder": "encoder_block_{}/Conv_0",
    "encoder": "encoder_block_{}",
    "open_bottleneck": "global_block_{}/input_proj",
    "bottleneck": "global_block_{}",
    "open_skip": "cross_gating_block_{}/Conv_0",
    "enlarge_gate": "cross_gating_block_{}/Conv_1",
    "skip": "cross_gating_block_{}",
    "open_decoder": "decoder_block_{}/UNetEncoderBlock_0/Conv_0",
    "enlarge_decoded": "decoder_block_{}/ConvTranspose_0",
    "decoder": "decoder_block_{}/UNetEncoderBlock_0",
    "output": "output_conv_{}",
}
"""Scopes of the deployment form's stages, with the literal module that each computes or opens."""

_MODULES = {
    "input_conv": "encoder",
    "input_fuse_sam": "input fusion",
    "encoder_block": "encoder",
    "global_block": "bottleneck",
    "cross_gating_block": "cross gating",
    "decoder_block": "decoder",
    "supervised_attention_module": "supervised attention",
    "output_conv": "output",
}
_BLOCKS = (
    (r"SplitHeadMultiAxisGmlpLayer", "multi-axis gMLP"),
    (r"channel_attention_block", "channel attention"),
    (r"SplitHeadMultiAxisGating|cross_gating_block", "cross gating"),
    (r"Conv_|ConvTranspose_|input_proj|Concat", "opening"),
)


def published_name(name: str, stages: int) -> str | None:
    """The published module that a node or module of the deployment form computes.

    Args:
        name: path in the deployment form: `stages/0/encoder/1/groups/steps/0/out/parts/3/Gemm_0`.
        stages: number of stages. The last stage ends in outputs, the others in supervised
            attention.

    Returns:
        Path of the module, as deep as the halves of a group and the weights of cross gating:
        `stage_0_encoder_block_1/SplitHeadMultiAxisGmlpLayer_0`. None outside of all blocks.
    """
    # One operator feeds the gate and the decoder of the deepest level.
    match = _DEPLOYMENT.match(name.replace("enlarge_deepest", f"enlarge_gate/{DEPTH - 1}"))
    if match is None or match[2] not in _SCOPES:
        return None
    stage, scope, number, inside = match.groups()
    if scope == "output" and int(stage) < stages - 1:
        return f"stage_{stage}_supervised_attention_module_{number}"
    return f"stage_{stage}_{_SCOPES[scope].format(number)}{_module_inside(scope, inside)}"


class Node(Protocol):
    """The parts of an ONNX node that determine its place."""

    @property
    def name(self) -> str:
        """Path of its module, and its operator with a number."""

    @property
    def input(self) -> Sequence[str]:
        """Names of its input tensors."""

    @property
    def output(self) -> Sequence[str]:
        """Names of its output tensors."""


def places_of(nodes: Sequence[Node]) -> dict[str, Place]:
    """The place of every node of our graphs, by name, in the graph's order.

    A node outside of all modules, such as a Split of a module's result, belongs to the place of its
    input. A node that reads the image itself belongs to "input".
    """
    stages = stages_in(node.name for node in nodes)
    places: dict[str, Place] = {}
    maker: dict[str, Place] = {}
    for node in nodes:
        place = place_of_name(node.name, stages) or upstream(node.input, maker)
        places[node.name] = place
        maker.update(dict.fromkeys(node.output, place))
    return places


def stages_in(names: Iterable[str]) -> int:
    """The number of stages of the network whose nodes have these names."""
    found = map(_STAGE.match, names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def upstream(inputs: Iterable[str], maker: Mapping[str, Place]) -> Place:
    """The place where the inputs come from; "input" if they come only from the image or its form.

    Args:
        inputs: names of tensors.
        maker: the place of origin of each tensor. Weights and the image are not in it.
    """
    for name in inputs:
        place = maker.get(name, IMAGE_FORM)
        if place not in (IMAGE_FORM, INPUT):
            return place
    return INPUT


def place_of_name(name: str, stages: int) -> Place | None:
    """The place by a node's name; None outside of all modules.

    Args:
        name: name of a node of the deployment or the literal form.
        stages: of the network.
    """
    if _IMAGE_FORM.match(name):
        return IMAGE_FORM
    if match := _RATIO.match(name):  # per stage, 9 feed the cross gating and then 9 the decoder
        stage, number = divmod(int(match[1]), 18)
        part = "cross gating" if number < 9 else "decoder"
        return Place(stage + 1, part, 2 - number % 9 // 3, "opening")
    match = _LITERAL.match(published_name(name, stages) or name)
    return _in_literal(int(match[1]), match[2], int(match[3]), match[4]) if match else None


def _module_inside(scope: str, inside: str) -> str:
    """The literal module inside a block, with a leading slash; empty for the block itself."""
    cross = "/cross_gating_block" if scope == "encoder" else ""
    if step := re.match(r"(?:groups/)?steps/(\d+)\b", inside):
        group, is_attention = divmod(int(step[1]), 2)
        if not is_attention:
            return f"/SplitHeadMultiAxisGmlpLayer_{group}"
        # The published network numbers the same half in two ways.
        return f"/channel_attention_block_1{'_' if scope == 'bottleneck' else ''}{group}"
    if scope == "fuse" and (opening := re.match(r"(image|attended)\b", inside)):
        return "/Conv_0" if opening[1] == "image" else "/Conv_1"
    if opening := re.match(r"open_([xy])\b", inside):
        return f"{cross}/Conv_{'xy'.index(opening[1])}"
    if gate := re.match(r"gate(/weights_([xy])\b)?", inside):
        return cross + (f"/SplitHeadMultiAxisGating_{gate[2]}" if gate[1] else "")
    return ""


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
