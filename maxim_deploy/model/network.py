"""The whole network: U-Nets in a row, with supervised attention between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maxim_deploy.errors import UsageError
from maxim_deploy.model.attention import SupervisedAttention
from maxim_deploy.model.blocks import BottleneckBlock, DecoderBlock, EncoderBlock
from maxim_deploy.model.gating import CrossGating
from maxim_deploy.model.primitives import (
    Conv3x3,
    channels_first,
    channels_last,
    nearest_shrink,
    resize,
)
from maxim_deploy.spec.architecture import BLOCK_SIZES, DEPTH, MULTIPLE_OF, Architecture

LEVELS = range(DEPTH)
UPWARDS = range(DEPTH - 1, -1, -1)
"""Levels from the smallest to full resolution, the order of the decoder."""


@dataclass(frozen=True)
class _StageResult:
    """The results of a stage for the next one. Each list is indexed by level."""

    encoded: list[Tensor]
    decoded: list[Tensor]
    attended: list[Tensor]
    """Supervised-attention features; empty in the last stage."""
    images: list[Tensor]


class Maxim(nn.Module):
    """MAXIM, literally. Source: arXiv 2201.02973; parameter names as published.

    Args:
        architecture: the size of the network; see `spec.architecture.VARIANTS` for the paper's.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        for stage in range(architecture.stages):
            self._add_stage(stage)

    def forward(self, image: Tensor) -> Tensor:
        """Restore a batch of images.

        Args:
            image: `[N, 3, H, W]` RGB in [0, 1]; H and W multiples of 64.

        Returns:
            The last stage's full-size output, same shape and type, not clipped to [0, 1].

        Raises:
            UsageError: a side is not a multiple of 64.
        """
        return self.all_outputs(image)[-1][-1]

    def all_outputs(self, image: Tensor) -> list[list[Tensor]]:
        """The images of every stage, `result[stage][scale]`.

        Scale 0 is `[N, 3, H/4, W/4]`, scale 1 half and scale 2 full size. Arguments and errors as
        for `forward`.
        """
        check_input(image)
        image = channels_last(image)
        # Nearest neighbours rather than the antialiased `resize`, as in training.
        pyramid = [image if level == 0 else nearest_shrink(image, 2**level) for level in LEVELS]
        outputs: list[list[Tensor]] = []
        previous = None
        for stage in range(self.architecture.stages):
            previous = self._stage(stage, pyramid, previous)
            outputs.append([channels_first(previous.images[level]) for level in UPWARDS])
        return outputs

    def _add_stage(self, stage: int) -> None:
        channels = self.architecture.channels
        groups = self.architecture.groups
        is_last = stage == self.architecture.stages - 1
        prefix = f"stage_{stage}"
        bottleneck = channels(DEPTH - 1)
        for level in LEVELS:
            c, size = channels(level), BLOCK_SIZES[level]
            below = channels(level - 1) if level else c  # level 0 reads its input twice
            deeper = channels(level + 1) if level < DEPTH - 1 else bottleneck
            self.add_module(f"{prefix}_input_conv_{level}", Conv3x3(3, c))
            if stage > 0:
                self.add_module(f"{prefix}_input_fuse_sam_{level}", CrossGating(c, size, size))
            self.add_module(
                f"{prefix}_encoder_block_{level}",
                EncoderBlock(below + c, c, size, groups, fuse_previous=stage > 0),
            )
            self.add_module(
                f"{prefix}_cross_gating_block_{level}",
                CrossGating(c, size, size, x_channels=DEPTH * c, upsample_from=deeper),
            )
            self.add_module(
                f"{prefix}_decoder_block_{level}",
                DecoderBlock(deeper, DEPTH * c, c, size, groups),
            )
            if is_last:
                self.add_module(f"{prefix}_output_conv_{level}", Conv3x3(c, 3))
            else:
                self.add_module(
                    f"{prefix}_supervised_attention_module_{level}", SupervisedAttention(c)
                )
        for k in range(self.architecture.bottleneck_blocks):
            block = BottleneckBlock(bottleneck, BLOCK_SIZES[-1], groups)
            self.add_module(f"{prefix}_global_block_{k}", block)
        for decoding in (False, True):
            for target in UPWARDS:
                for name, source in ratio_sources(stage, target, decoding):
                    self.add_module(
                        name, UpSampleRatio(channels(source), channels(target), source, target)
                    )

    def _stage(
        self, stage: int, pyramid: list[Tensor], previous: _StageResult | None
    ) -> _StageResult:
        def block(name: str, *inputs: Any) -> Any:
            return self.get_submodule(f"stage_{stage}_{name}")(*inputs)

        x: Any = None
        encoded: list[Tensor] = []
        for level in LEVELS:
            skip = block(f"input_conv_{level}", pyramid[level])
            carried = None
            if previous is not None:
                skip, _ = block(f"input_fuse_sam_{level}", skip, previous.attended[level])
                carried = previous.encoded[level] + previous.decoded[level]
            x = skip if level == 0 else x  # level 0 reads its input twice
            x, full = block(f"encoder_block_{level}", x, skip, carried)
            encoded.append(full)

        for k in range(self.architecture.bottleneck_blocks):
            x = block(f"global_block_{k}", x)

        # From the bottleneck up: the second result of each level gates the next larger one.
        gate = x
        skips: dict[int, Tensor] = {}
        for level in UPWARDS:
            signal = self._gather(stage, level, dict(enumerate(encoded)), decoding=False)
            skips[level], gate = block(f"cross_gating_block_{level}", signal, gate)

        decoded: dict[int, Tensor] = {}
        for level in UPWARDS:
            bridge = self._gather(stage, level, skips, decoding=True)
            x = decoded[level] = block(f"decoder_block_{level}", x, bridge)

        attended, images = [], []
        for level in LEVELS:
            if stage == self.architecture.stages - 1:
                restored = block(f"output_conv_{level}", decoded[level]) + pyramid[level]
            else:
                features, restored = block(
                    f"supervised_attention_module_{level}", decoded[level], pyramid[level]
                )
                attended.append(features)
            images.append(restored)
        return _StageResult(encoded, [decoded[level] for level in LEVELS], attended, images)

    def _gather(
        self, stage: int, target: int, features: dict[int, Tensor], *, decoding: bool
    ) -> Tensor:
        """All levels' features, resized to level `target` and concatenated."""
        resized = [
            self.get_submodule(name)(features[source])
            for name, source in ratio_sources(stage, target, decoding)
        ]
        return torch.cat(resized, dim=-1)


class UpSampleRatio(nn.Module):
    """Resize between two levels, then a 1x1 convolution."""

    def __init__(self, in_channels: int, channels: int, source: int, target: int) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.Conv_0 = nn.Linear(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, in]` at level `source` to `[N, H', W', C]` at level `target`."""
        resized: Tensor = self.Conv_0(resize(x, self.source, self.target))
        return resized


def ratio_sources(stage: int, target: int, decoding: bool) -> list[tuple[str, int]]:
    """(module name, source level) of the three resizes to level `target`, in their order of use.

    The published numbers count over the whole network. Each stage has nine for the skips (targets
    2, 1, 0, each with the encoder levels 0, 1, 2), then nine for the decoder (targets 2, 1, 0, each
    with the skip levels 2, 1, 0).
    """
    first = DEPTH * (DEPTH * (2 * stage + decoding) + (DEPTH - 1 - target))
    levels = UPWARDS if decoding else LEVELS
    return [(f"UpSampleRatio_{first + k}", source) for k, source in enumerate(levels)]


def check_input(image: Tensor) -> None:
    """Raise an error for a batch `[N, 3, H, W]` whose sides are not multiples of 64.

    Raises:
        UsageError: the message has the size.
    """
    if torch.compiler.is_exporting():  # the sides are symbols that are known to be multiples
        return
    _, _, height, width = image.shape
    if height % MULTIPLE_OF or width % MULTIPLE_OF:
        raise UsageError(
            f"the network takes sides that are multiples of {MULTIPLE_OF}, not {height}x{width}; "
            "pad the image first (maxim_deploy.imaging.Padding)"
        )
