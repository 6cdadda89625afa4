"""The blocks of the network in deployment form, on tokens `[pixels, channels]`.

Attribute names are an interface: see `maxim_deploy.export.deployment.network`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.export.deployment.algebra import Affine, Kernel, chain
from maxim_deploy.export.deployment.mixing import SpatialMix
from maxim_deploy.export.deployment.modules import (
    Convolution,
    Gelu,
    Halves,
    Matrix,
    MatrixOfParts,
    Norm,
    Size,
    TensorModule,
    norm_then,
)
from maxim_deploy.export.deployment.rewrites import Rewrites
from maxim_deploy.model import attention, gating, gmlp
from maxim_deploy.model.primitives import LEAKY_SLOPE


class GatedBranch(TensorModule):
    """One gated MLP, local or global, up to its output projection."""

    def __init__(
        self, literal: gmlp.BlockGmlpLayer | gmlp.GridGmlpLayer, rewrites: Rewrites
    ) -> None:
        super().__init__()
        is_grid = isinstance(literal, gmlp.GridGmlpLayer)
        unit = getattr(literal, "GridGatingUnit" if is_grid else "BlockGatingUnit")
        self.norm, projection = norm_then(
            literal.LayerNorm, Affine.of(literal.in_project), rewrites
        )
        self.halves = Halves(projection, rewrites)
        self.gate_norm = Norm(unit.intermediate_layernorm)
        self.plus_one = rewrites.folded_norms
        self.mix = SpatialMix(
            unit.Dense_0, literal.size, grid=is_grid, plus_one=self.plus_one, rewrites=rewrites
        )

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        halves: tuple[Tensor, Tensor] = self.halves(self.norm(x))
        u, v = halves
        gate = self.mix(self.gate_norm(v), size)
        return u * (gate if self.plus_one else gate + 1.0)


class MultiAxis(TensorModule):
    """Multi-axis gMLP block.

    Each branch ends in `u + g P` and the block in `[a b] W`. Multiplied out (`spread_shortcuts`),
    `(u + g P) W = u W + g (P W)`: as many products, and one pass over memory less per branch.
    """

    def __init__(self, literal: gmlp.MultiAxisGmlp, rewrites: Rewrites) -> None:
        super().__init__()
        self.norm, projection = norm_then(
            literal.LayerNorm_in, Affine.of(literal.in_project), rewrites
        )
        self.halves = Halves(projection, rewrites)
        self.grid = GatedBranch(literal.GridGmlpLayer, rewrites)
        self.block = GatedBranch(literal.BlockGmlpLayer, rewrites)

        out = Affine.of(literal.out_project)
        channels = out.bias.shape[0]
        # The grid takes the first half and stands first in the concatenation, as published.
        # Swapped, the picture is 0.6 off, and no shape tells.
        inner = [Affine.of(literal.GridGmlpLayer.out_project)]
        inner += [Affine.of(literal.BlockGmlpLayer.out_project)]
        outer = [out.rows(0, channels), out.rows(channels, 2 * channels)]
        # The bias belongs to the whole sum, so that one part only carries it.
        with_bias = outer[0].plus_bias(out.bias)
        self.spread = rewrites.spread_shortcuts
        if self.spread:
            spread = [chain(first, second) for first, second in zip(inner, outer, strict=True)]
            self.out = MatrixOfParts([with_bias, spread[0], outer[1], spread[1]], rewrites)
        else:
            self.inner = nn.ModuleList(Matrix(matrix, rewrites) for matrix in inner)
            self.out = MatrixOfParts([with_bias, outer[1]], rewrites)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        u, v = self.halves(self.norm(x))
        gated_u, gated_v = self.grid(u, size), self.block(v, size)
        # Products with Gemm's addend: neither branch's sum is ever written to memory.
        if self.spread:
            out = self.out(u, gated_u, v, gated_v)
        else:
            out = self.out(u + self.inner[0](gated_u), v + self.inner[1](gated_v))
        return x + out


def means_of(x: Tensor, height: int = 2) -> Tensor:
    """Means over an image's rows and columns, the axes `height` and `height + 1`: `[N, C]`.

    Along the columns first. A single sum over millions of positions, added up one after the other
    as some backends do, loses digits even in float32: 1 % of the mean at 1024 x 1024.
    """
    return x.mean(dim=height + 1).mean(dim=height)


class DeploymentChannelAttention(TensorModule):
    """The weights of channel attention, from the means over an image."""

    def __init__(self, literal: attention.ChannelAttention, rewrites: Rewrites) -> None:
        super().__init__()
        self.squeeze = Matrix(Affine.of(literal.Conv_0), rewrites)
        self.excite = Matrix(Affine.of(literal.Conv_1), rewrites)

    def forward(self, means: Tensor) -> Tensor:
        """`[N, C]` to weights in (0, 1), the same shape."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


class ConvolutionalAttention(TensorModule):
    """RCAB. With `shared_layouts` both convolutions run on one map, and only its tokens return."""

    def __init__(self, literal: attention.ResidualChannelAttention, rewrites: Rewrites) -> None:
        super().__init__()
        self.norm = Norm(literal.LayerNorm)
        self.conv1 = Convolution(Kernel.of(literal.conv1), padding=1)
        self.conv2 = Convolution(Kernel.of(literal.conv2), padding=1)
        self.attention = DeploymentChannelAttention(literal.channel_attention, rewrites)
        self.shared = rewrites.shared_layouts

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        y = F.leaky_relu(self.conv1(size.map(self.norm(x))), LEAKY_SLOPE)
        # For ablation: the sum keeps the pair of layout changes apart, which else cancel out.
        if not self.shared:
            y = size.map(size.tokens(y) + 0.0)
        y = self.conv2(y)
        # Channels last for the product with the weights, which the way back to tokens needs anyway.
        weights = self.attention(means_of(y))
        y = y.permute(0, 2, 3, 1) * weights[:, None, None, :]
        return x + y.reshape(-1, y.shape[3])


class DenseAttention(TensorModule):
    """RDCAB."""

    def __init__(
        self, literal: attention.ResidualDenseChannelAttention, rewrites: Rewrites
    ) -> None:
        super().__init__()
        mixing = literal.channel_mixing
        self.norm, first = norm_then(literal.LayerNorm, Affine.of(mixing.Dense_0), rewrites)
        self.first = Matrix(first, rewrites)
        self.gelu = Gelu(rewrites)
        self.second = Matrix(Affine.of(mixing.Dense_1), rewrites)
        self.attention = DeploymentChannelAttention(literal.channel_attention, rewrites)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        y = self.second(self.gelu(self.first(self.norm(x))))
        # Tokens of all images stand in one row, while the mean is of each image by itself.
        y = y.reshape(*size, y.shape[1])
        y = y * self.attention(means_of(y, height=1))[:, None, None, :]
        return x + y.reshape(-1, y.shape[3])


class GatingWeights(TensorModule):
    """Spatial gating weights of cross gating."""

    def __init__(self, literal: gating.SpatialGatingWeights, rewrites: Rewrites) -> None:
        super().__init__()
        self.norm, projection = norm_then(
            literal.LayerNorm_in, Affine.of(literal.in_project), rewrites
        )
        self.halves = Halves(projection, rewrites)
        # Dense_0 is the grid's here. The published gate adds no 1 to these weights: with one, the
        # picture is 0.45 off.
        self.grid = SpatialMix(
            literal.Dense_0, literal.grid, grid=True, plus_one=False, rewrites=rewrites
        )
        self.block = SpatialMix(
            literal.Dense_1, literal.block, grid=False, plus_one=False, rewrites=rewrites
        )
        out = Affine.of(literal.out_project)
        channels = out.bias.shape[0]
        self.out = MatrixOfParts(
            [out.rows(0, channels).plus_bias(out.bias), out.rows(channels, 2 * channels)], rewrites
        )

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        u, v = self.halves(self.norm(x))
        return self.out(self.grid(u, size), self.block(v, size))


class CrossGate(nn.Module):
    """Cross gating without its two opening 1x1 convolutions, which its callers apply."""

    def __init__(self, literal: gating.CrossGating, rewrites: Rewrites) -> None:
        super().__init__()
        self.gelu = Gelu(rewrites)
        self.norm_x, in_x = norm_then(
            literal.LayerNorm_x, Affine.of(literal.in_project_x), rewrites
        )
        self.norm_y, in_y = norm_then(
            literal.LayerNorm_y, Affine.of(literal.in_project_y), rewrites
        )
        self.in_x, self.in_y = Matrix(in_x, rewrites), Matrix(in_y, rewrites)
        self.weights_x = GatingWeights(literal.SplitHeadMultiAxisGating_x, rewrites)
        self.weights_y = GatingWeights(literal.SplitHeadMultiAxisGating_y, rewrites)
        self.out_x = Matrix(Affine.of(literal.out_project_x), rewrites)
        self.out_y = Matrix(Affine.of(literal.out_project_y), rewrites)

    def forward(self, x: Tensor, y: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Two `[pixels, C]` to two `[pixels, C]`."""
        u = self.gelu(self.in_x(self.norm_x(x)))
        v = self.gelu(self.in_y(self.norm_y(y)))
        # x takes the gated y, while the weights of both come from the projections before any gate.
        # Another order costs 0.08 to 0.6 of the range.
        y = self.out_y(v * self.weights_x(u, size)) + y
        x = self.out_x(u * self.weights_y(v, size)) + (y + x)
        return x, y


class Groups(TensorModule):
    """The groups of an encoder, decoder or bottleneck block, and the shortcut around them."""

    def __init__(self, literal: nn.Module, groups: int, rewrites: Rewrites) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        for k in range(groups):
            mixer = literal.get_submodule(f"SplitHeadMultiAxisGmlpLayer_{k}")
            assert isinstance(mixer, gmlp.MultiAxisGmlp)
            self.steps.append(MultiAxis(mixer, rewrites))
            # Published names differ by one underscore: `_1_0` in the bottleneck, `_10` elsewhere.
            dense = getattr(literal, f"channel_attention_block_1_{k}", None)
            self.steps.append(
                DenseAttention(dense, rewrites)
                if dense is not None
                else ConvolutionalAttention(
                    getattr(literal, f"channel_attention_block_1{k}"), rewrites
                )
            )

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        shortcut = x
        for step in self.steps:
            x = step(x, size)
        return x + shortcut
