"""Inputs of a stage's blocks: opening 1x1 convolutions, folded into the layers before them.

Attribute names are an interface: see `maxim_deploy.export.deployment.network`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maxim_deploy.export.deployment.algebra import (
    Affine,
    Kernel,
    chain_convolution,
    chain_transposed,
)
from maxim_deploy.export.deployment.blocks import CrossGate, Groups
from maxim_deploy.export.deployment.modules import Convolution, Matrix, Size, TensorModule
from maxim_deploy.export.deployment.rewrites import Rewrites
from maxim_deploy.model.attention import SupervisedAttention
from maxim_deploy.model.blocks import EncoderBlock
from maxim_deploy.model.gating import CrossGating


class Fuse(TensorModule):
    """Cross gating of a later stage's input features with the previous stage's attended ones.

    The input's 3x3 convolution and the gating's opening 1x1 form one convolution.
    """

    def __init__(
        self, image: Kernel, literal: CrossGating, rewrites: Rewrites, *, level: int
    ) -> None:
        super().__init__()
        opening = Affine.of(literal.Conv_0)
        self.matrix = None
        if rewrites.folded_chains:
            image = chain_convolution(image, opening)
        else:
            self.matrix = Matrix(opening, rewrites)
        self.image = Convolution(image, padding=1)
        self.attended = Matrix(Affine.of(literal.Conv_1), rewrites)
        self.gate = CrossGate(literal, rewrites, joined=level > 0)

    def forward(self, image: Tensor, attended: Tensor, size: Size) -> Tensor:
        """Image map `[N, 3, H, W]` and tokens to tokens."""
        x = size.tokens(self.image(image))
        if self.matrix is not None:
            x = self.matrix(x)
        fused: Tensor = self.gate(x, self.attended(attended), size)[0]
        return fused


class EncoderOpening(TensorModule):
    """The 1x1 that opens an encoder block, `[below skip] W + b`.

    `below` is the 4x4 convolution of the level above; at level 0 it is the skip again. In the first
    stage `skip` is a 3x3 convolution of the image. After folding, both are convolutions directly to
    the block's channels, and the doubled input of level 0 is `skip (W_below + W_skip)`.
    """

    def __init__(
        self,
        encoder: EncoderBlock,
        below: EncoderBlock | None,
        image: Kernel | None,
        rewrites: Rewrites,
    ) -> None:
        super().__init__()
        opening = Affine.of(encoder.Conv_0)
        down = None if below is None or below.Conv_1 is None else Kernel.of(below.Conv_1)
        self.joined = None
        self.matrix = None
        if rewrites.folded_chains:
            channels = opening.bias.shape[0]
            ahead = opening.weight.shape[0] - channels
            first, second = opening.rows(0, ahead), opening.rows(ahead, ahead + channels)
            # Level 0 takes the skip twice. Only one source has the bias.
            if down is None:
                second = Affine(first.weight + second.weight, opening.bias)
            else:
                down = chain_convolution(down, first.plus_bias(opening.bias))
            if image is not None:
                image = chain_convolution(image, second)
            else:
                self.matrix = Matrix(second, rewrites)
        else:
            self.joined = Matrix(opening, rewrites)
        self.down = None if down is None else Convolution(down, stride=2, padding=1)
        self.image = None if image is None else Convolution(image, padding=1)

    def forward(self, below: Tensor | None, skip: Tensor, size: Size) -> Tensor:
        """The map of the level above, and the image map or the skip's tokens, to tokens."""
        shrunk = None if self.down is None else self.down(below)
        if self.joined is not None:
            if self.image is not None:
                skip = size.tokens(self.image(skip))
            first = skip if shrunk is None else size.tokens(shrunk)
            return self.joined(torch.cat([first, skip], dim=1))
        # Both are maps here. Adding before the change to tokens saves one of two layout changes.
        if self.image is not None:
            x = self.image(skip)
            return size.tokens(x if shrunk is None else shrunk + x)
        assert self.matrix is not None
        return self.matrix(skip, addend=None if shrunk is None else size.tokens(shrunk))


class Encoder(TensorModule):
    """An encoder block after its opening: groups, then cross gating with the previous stage."""

    def __init__(
        self, literal: EncoderBlock, groups: int, rewrites: Rewrites, *, level: int
    ) -> None:
        super().__init__()
        cross = literal.cross_gating_block
        self.groups = Groups(literal, groups, rewrites, level=level, as_map=cross is None)
        self.gate = None
        if cross is not None:
            self.open_x = Matrix(Affine.of(cross.Conv_0), rewrites)
            self.open_y = Matrix(Affine.of(cross.Conv_1), rewrites)
            self.gate = CrossGate(cross, rewrites, joined=level > 0)

    def forward(self, x: Tensor, carried: Tensor | None, size: Size) -> Tensor:
        """Tokens to tokens, or to a map if the groups end in one."""
        x = self.groups(x, size)
        if self.gate is not None:
            x, _ = self.gate(self.open_x(x), self.open_y(carried), size)
        return x


class BottleneckOpening(TensorModule):
    """The 1x1 that opens a bottleneck block. The first one joins the preceding 4x4 convolution."""

    def __init__(self, down: nn.Module | None, opening: Affine, rewrites: Rewrites) -> None:
        super().__init__()
        kernel = None if down is None else Kernel.of(down)
        # The second bottleneck block follows another block, so there is no convolution to fold
        # into.
        fold = kernel is not None and rewrites.folded_chains
        if kernel is not None and fold:
            kernel = chain_convolution(kernel, opening)
        self.down = None if kernel is None else Convolution(kernel, stride=2, padding=1)
        self.matrix = None if fold else Matrix(opening, rewrites)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """The last encoder's map, or the previous block's tokens, to tokens."""
        if self.down is not None:
            x = size.tokens(self.down(x))
        return x if self.matrix is None else self.matrix(x)


def gate_kernel(literal: CrossGating, rewrites: Rewrites) -> Kernel:
    """The gate's transposed convolution, merged with the opening 1x1 after it."""
    assert literal.ConvTranspose_0 is not None  # a gate is always enlarged
    kernel = Kernel.of(literal.ConvTranspose_0)
    if not rewrites.folded_chains:
        return kernel
    return chain_transposed(kernel, Affine.of(literal.Conv_1))


class Skip(nn.Module):
    """Cross gating of a level's gathered features with the enlarged gate from the level below."""

    def __init__(self, literal: CrossGating, rewrites: Rewrites) -> None:
        super().__init__()
        opening = Affine.of(literal.Conv_1)
        self.matrix = None if rewrites.folded_chains else Matrix(opening, rewrites)
        self.gate = CrossGate(literal, rewrites)

    def forward(self, x: Tensor, y: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Opened tokens, and those of `gate_kernel`, to (skip, gate), tokens."""
        if self.matrix is not None:
            y = self.matrix(y)
        gated: tuple[Tensor, Tensor] = self.gate(x, y, size)
        return gated


class Supervised(TensorModule):
    """Supervised attention on maps. The image itself is not returned."""

    def __init__(self, literal: SupervisedAttention) -> None:
        super().__init__()
        self.features = Convolution(Kernel.of(literal.Conv_0), padding=1)
        self.image = Convolution(Kernel.of(literal.Conv_1), padding=1)
        self.attention = Convolution(Kernel.of(literal.Conv_2), padding=1)

    def forward(self, x: Tensor, image: Tensor, size: Size) -> Tensor:
        """A level's decoded map and its input image to tokens."""
        attention = torch.sigmoid(self.attention(self.image(x) + image))
        return size.tokens(self.features(x) * attention + x)
