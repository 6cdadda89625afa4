"""The network in deployment form: the literal function in fewer, larger operations.

It is made from a literal network and exported in its place. It takes one image and returns the last
stage's full-size image. Inside, features are tokens `[pixels, channels]`, and maps `[N, C, H, W]`
around spatial convolutions.

The attribute names of all modules in this room are an interface. Each graph node is named after its
module, as in `stages/0/encoder/1/groups/steps/0/out/parts/3/Gemm_0`. Saved precision tables match
these names, `spec/places.py` translates them to the published names, and profiles and `maxim-parity
--locate` show them. Renaming an attribute breaks users' tables, so
`tests/export/test_module_names.py` lists every name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from maxim_deploy.export.deployment.algebra import Affine, Kernel
from maxim_deploy.export.deployment.blocks import Groups
from maxim_deploy.export.deployment.modules import Convolution, Enlargement, Size
from maxim_deploy.export.deployment.openings import (
    BottleneckOpening,
    Encoder,
    EncoderOpening,
    Fuse,
    Skip,
    Supervised,
    gate_kernel,
)
from maxim_deploy.export.deployment.resampling import Opening, ahead_of
from maxim_deploy.export.deployment.rewrites import Rewrites
from maxim_deploy.model.network import LEVELS, UPWARDS, Maxim, check_input, ratio_sources
from maxim_deploy.spec.architecture import DEPTH, Architecture

Block = Callable[[str], Any]
"""A literal block of a stage by its name."""


@dataclass(frozen=True)
class Handed:
    """The results of a stage for the next one: tokens by level."""

    attended: dict[int, Tensor]
    features: dict[int, Tensor]
    """Encoder plus decoder feature."""


class DeploymentMaxim(nn.Module):
    """A MAXIM rewritten for deployment. It equals `literal` except for rounding.

    Args:
        literal: the network. Its weights are folded in float64 and stored in its own type.
        rewrites: which rewrites to use.
    """

    def __init__(self, literal: Maxim, rewrites: Rewrites | None = None) -> None:
        super().__init__()
        rewrites = rewrites or Rewrites()
        dtype = next(literal.parameters()).dtype
        self.stages = nn.ModuleList(
            DeploymentStage(literal, stage, rewrites)
            for stage in range(literal.architecture.stages)
        )
        # Weights were folded in float64 and are rounded only here.
        self.to(dtype).eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Restore a batch of images.

        Args:
            image: `[N, 3, H, W]` RGB in [0, 1]; H and W multiples of 64.

        Returns:
            The last stage's full-size output, same shape and type, not clipped. Without
            `last_output_only`, that stage's outputs at 1/2 and 1/4 follow.

        Raises:
            UsageError: a side is not a multiple of 64.
        """
        check_input(image)
        # The published resize takes the second of two pixels and the third of four. The first of
        # each would cause an error of 0.11.
        pyramid = [image, image[:, :, 1::2, 1::2], image[:, :, 2::4, 2::4]]
        handed = None
        for stage in self.stages[:-1]:
            handed = stage(pyramid, handed)
        images: list[Tensor] = self.stages[-1](pyramid, handed)
        return images[0] if len(images) == 1 else tuple(images)


class DeploymentStage(nn.Module):
    """One U-Net. Lists are indexed by level."""

    def __init__(self, literal: Maxim, stage: int, rewrites: Rewrites) -> None:
        super().__init__()
        self.fuse, self.open_encoder, self.encoder = (nn.ModuleList() for _ in range(3))
        self.open_skip, self.skip = nn.ModuleList(), nn.ModuleList()
        self.open_decoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.output = nn.ModuleList()
        self.is_last = stage == literal.architecture.stages - 1

        def block(name: str) -> Any:
            return literal.get_submodule(f"stage_{stage}_{name}")

        self._add_encoder(block, literal.architecture.groups, rewrites, is_first=stage == 0)
        self._add_bottleneck(block, literal.architecture, rewrites)
        kernels = {}
        for level in LEVELS:
            kernels[level] = self._add_decoder(literal, block, stage, level, rewrites)
            # The last stage needs only the full-size image.
            if not self.is_last:
                self.output.append(Supervised(block(f"supervised_attention_module_{level}")))
            elif level == 0 or not rewrites.last_output_only:
                kernel = Kernel.of(block(f"output_conv_{level}"))
                self.output.append(Convolution(kernel, padding=1))
        # The gate and the decoder of the deepest level both enlarge the bottleneck's tokens.
        self.enlarge_deepest = Enlargement(kernels.pop(DEPTH - 1), rewrites)
        self.enlarge_gate = nn.ModuleList(Enlargement([k[0]], rewrites) for k in kernels.values())
        self.enlarge_decoded = nn.ModuleList(
            Enlargement([k[1]], rewrites) for k in kernels.values()
        )

    def _add_encoder(
        self, block: Block, groups: int, rewrites: Rewrites, *, is_first: bool
    ) -> None:
        below = None
        for level in LEVELS:
            image = Kernel.of(block(f"input_conv_{level}"))
            if not is_first:
                cross = block(f"input_fuse_sam_{level}")
                self.fuse.append(Fuse(image, cross, rewrites, level=level))
            encoder = block(f"encoder_block_{level}")
            own_image = image if is_first else None
            self.open_encoder.append(EncoderOpening(encoder, below, own_image, rewrites))
            self.encoder.append(Encoder(encoder, groups, rewrites, level=level))
            # The 4x4 convolution that ends this level is folded into the opening of the next.
            below = encoder

    def _add_bottleneck(self, block: Block, architecture: Architecture, rewrites: Rewrites) -> None:
        down = block(f"encoder_block_{DEPTH - 1}").Conv_1
        self.open_bottleneck, self.bottleneck = nn.ModuleList(), nn.ModuleList()
        for k in range(architecture.bottleneck_blocks):
            literal = block(f"global_block_{k}")
            opening = Affine.of(literal.input_proj)
            self.open_bottleneck.append(
                BottleneckOpening(down if k == 0 else None, opening, rewrites)
            )
            self.bottleneck.append(Groups(literal, architecture.groups, rewrites, level=DEPTH))

    def _add_decoder(
        self, literal: Maxim, block: Block, stage: int, level: int, rewrites: Rewrites
    ) -> list[Kernel]:
        """Add one level. Returns the kernels that enlarge the gate and the decoded features."""

        def ratios(*, decoding: bool) -> list[tuple[int, Affine]]:
            return [
                (source, Affine.of(literal.get_submodule(f"{name}.Conv_0")))
                for name, source in ratio_sources(stage, level, decoding)
            ]

        cross, decoder = block(f"cross_gating_block_{level}"), block(f"decoder_block_{level}")
        gather = Affine.of(cross.Conv_0)
        self.open_skip.append(Opening(gather, ratios(decoding=False), level, rewrites))
        self.skip.append(Skip(cross, rewrites))
        unet = decoder.UNetEncoderBlock_0
        opening = Affine.of(unet.Conv_0)
        self.open_decoder.append(Opening(opening, ratios(decoding=True), level, rewrites))
        # The last stage needs only the full-size map, see `output`.
        as_map = not self.is_last or level == 0 or not rewrites.last_output_only
        self.decoder.append(
            Groups(unet, literal.architecture.groups, rewrites, level=level, as_map=as_map)
        )
        ahead = ahead_of(opening, Kernel.of(decoder.ConvTranspose_0), rewrites)
        return [gate_kernel(cross, rewrites), ahead]

    def forward(self, pyramid: list[Tensor], handed: Handed | None) -> Handed | list[Tensor]:
        """Run the stage on the input images by level and the previous stage's results."""
        image = pyramid[0]
        full = Size(image.shape[0], image.shape[2], image.shape[3])
        encoded, maps = self._encode(pyramid, handed, full)
        deepest = maps[DEPTH - 1]
        for opening, block in zip(self.open_bottleneck, self.bottleneck, strict=True):
            deepest = block(opening(deepest, full.at(DEPTH)), full.at(DEPTH))
        gate, ahead = self.enlarge_deepest(deepest, full.at(DEPTH))
        skips = self._gate(encoded, maps, gate, full)
        decoded = self._decode(skips, ahead, full)
        if self.is_last:
            return [
                convolution(full.at(level).map(decoded[level])) + pyramid[level]
                for level, convolution in enumerate(self.output)
            ]
        attended = {
            level: self.output[level](
                full.at(level).map(decoded[level]), pyramid[level], full.at(level)
            )
            for level in LEVELS
        }
        features = {
            level: encoded[level] + full.at(level).tokens(decoded[level]) for level in LEVELS
        }
        return Handed(attended, features)

    def _encode(
        self, pyramid: list[Tensor], handed: Handed | None, full: Size
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Encoder features by level, as tokens and as maps."""
        encoded: dict[int, Tensor] = {}
        maps: dict[int, Tensor] = {}
        for level in LEVELS:
            size, skip, carried = full.at(level), pyramid[level], None
            if handed is not None:
                skip = self.fuse[level](skip, handed.attended[level], size)
                carried = handed.features[level]
            x = self.open_encoder[level](maps.get(level - 1), skip, size)
            x = self.encoder[level](x, carried, size)
            encoded[level], maps[level] = size.tokens(x), size.map(x)
        return encoded, maps

    def _gate(
        self, encoded: dict[int, Tensor], maps: dict[int, Tensor], gate: Tensor, full: Size
    ) -> dict[int, Tensor]:
        """Gated skips by level, tokens."""
        skips: dict[int, Tensor] = {}
        for level in UPWARDS:
            size = full.at(level)
            x = self.open_skip[level](encoded[level], maps, size)
            skips[level], gate = self.skip[level](x, gate, size)
            if level:
                (gate,) = self.enlarge_gate[level - 1](gate, size)
        return skips

    def _decode(self, skips: dict[int, Tensor], ahead: Tensor, full: Size) -> dict[int, Tensor]:
        """Decoded features by level, tokens or maps."""
        maps = {level: full.at(level).map(skips[level]) for level in LEVELS}
        decoded: dict[int, Tensor] = {}
        for level in UPWARDS:
            size = full.at(level)
            x = self.open_decoder[level](skips[level], maps, size, ahead)
            decoded[level] = self.decoder[level](x, size)
            if level:
                (ahead,) = self.enlarge_decoded[level - 1](size.tokens(decoded[level]), size)
        return decoded
