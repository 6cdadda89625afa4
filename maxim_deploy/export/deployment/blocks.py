"""The blocks of the network in deployment form, on tokens `[pixels, channels]`.

Attribute names are an interface: see `maxim_deploy.export.deployment.network`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.export.deployment.algebra import Affine, Kernel, behind_deviation, chain
from maxim_deploy.export.deployment.mixing import SpatialMix
from maxim_deploy.export.deployment.modules import (
    Convolution,
    Deviation,
    Gelu,
    Halves,
    Matrix,
    MatrixOfParts,
    Norm,
    Product,
    Size,
    TensorModule,
    norm_then,
    normed,
)
from maxim_deploy.export.deployment.rewrites import Rewrites
from maxim_deploy.model import attention, gating, gmlp
from maxim_deploy.model.primitives import LEAKY_SLOPE


class GatedBranch(TensorModule):
    """A gated MLP, local or global, without its output projection.

    Args:
        literal: the literal MLP. The global one takes the first half of a block.
        rewrites: which to use.
        joined: whether the input is both halves of the block as one tensor, with the factor of its
            own half; see `JoinedMultiAxis`.
    """

    def __init__(
        self,
        literal: gmlp.BlockGmlpLayer | gmlp.GridGmlpLayer,
        rewrites: Rewrites,
        *,
        joined: bool = False,
    ) -> None:
        super().__init__()
        is_grid = isinstance(literal, gmlp.GridGmlpLayer)
        unit = getattr(literal, "GridGatingUnit" if is_grid else "BlockGatingUnit")
        projection = Affine.of(literal.in_project)
        self.norm = None
        if joined:
            projection = behind_deviation(literal.LayerNorm, projection)
            nothing = torch.zeros_like(projection.weight)
            halves = [projection.weight, nothing] if is_grid else [nothing, projection.weight]
            projection = Affine(torch.cat(halves), projection.bias)
        else:
            self.norm, projection = norm_then(literal.LayerNorm, projection, rewrites)
        self.halves = Halves(projection, rewrites)
        self.gate_norm = Norm(unit.intermediate_layernorm)
        self.plus_one = rewrites.folded_norms
        self.norm_first = not rewrites.partitioned_norms
        self.mix = SpatialMix(
            unit.Dense_0, literal.size, grid=is_grid, plus_one=self.plus_one, rewrites=rewrites
        )

    def forward(self, x: Tensor, size: Size, scale: Tensor | None = None) -> Tensor:
        """`[pixels, C]` to the same. If joined, `[pixels, 2C]` and the factor to `[pixels, C]`."""
        if self.norm is not None:
            x, scale = normed(self.norm, x)
        u, v = self.halves(x, scale)
        if self.norm_first:
            gate = self.mix(self.gate_norm(v), size)
        else:
            gate = self.mix(v, size, before=self.gate_norm)
        gated: Tensor = u * (gate if self.plus_one else gate + 1.0)
        return gated


class MultiAxis(TensorModule):
    """Multi-axis gMLP block.

    Each branch ends in `u + g P`, and the block in `[a b] W`. With `spread_shortcuts`, `(u + g P) W
    = u W + g (P W)`: equally many products, and one pass over memory less per branch.
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
        # The grid takes the first half and comes first in the concatenation, as published. If both
        # are swapped, all shapes fit, but the picture has an error of 0.6.
        inner = [Affine.of(literal.GridGmlpLayer.out_project)]
        inner += [Affine.of(literal.BlockGmlpLayer.out_project)]
        outer = [out.rows(0, channels), out.rows(channels, 2 * channels)]
        # The bias belongs to the whole sum, so only one part has it.
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
        u, v = self.halves(*normed(self.norm, x))
        gated_u, gated_v = self.grid(u, size), self.block(v, size)
        # Products with Gemm's addend: the sums of the branches are never written to memory.
        if self.spread:
            out = self.out(u, gated_u, v, gated_v)
        else:
            out = self.out(u + self.inner[0](gated_u), v + self.inner[1](gated_v))
        return x + out


class JoinedMultiAxis(TensorModule):
    """Multi-axis gMLP block whose halves `u` and `v` stay one tensor `z = [u v]`.

    The block is `x + u W0 + g_u W1 + v W2 + g_v W3` with the branches' gates `g` (see `MultiAxis`
    with spread shortcuts). All readers of a half read `z` instead. Their matrices have rows of
    zeros for the other half: `u W = z [W; 0]`. So the block is `x + z [W0; W2] + [g_u g_v] [W1;
    W3]`.

    TensorRT merges products of one input into one kernel, whose results are views of one tensor. It
    fuses GELU into the single product that makes `z`; it would have to copy separate halves. The
    gates' kernels write into the concatenation in place. This takes 10 kernels and 32 passes over a
    tensor of C channels; separate halves take 20 and 53.

    Args:
        literal: the block.
        rewrites: which to use.
        chained: whether to add the gates' products one after the other. A concatenation would raise
            the peak memory at full size.
    """

    def __init__(self, literal: gmlp.MultiAxisGmlp, rewrites: Rewrites, *, chained: bool) -> None:
        super().__init__()
        opening = behind_deviation(literal.LayerNorm_in, Affine.of(literal.in_project))
        self.norm, self.opening = Deviation(), Matrix(opening, rewrites)
        self.gelu = Gelu(rewrites)
        self.half_norms = Deviation()
        self.grid = GatedBranch(literal.GridGmlpLayer, rewrites, joined=True)
        self.block = GatedBranch(literal.BlockGmlpLayer, rewrites, joined=True)

        out = Affine.of(literal.out_project)
        channels = out.bias.shape[0]
        outer = out.rows(0, channels), out.rows(channels, 2 * channels)
        layers = literal.GridGmlpLayer, literal.BlockGmlpLayer
        inner = [Affine.of(layer.out_project) for layer in layers]
        spread = [chain(first, second) for first, second in zip(inner, outer, strict=True)]
        self.shortcut = Product(*outer)
        gates = map(Product, spread) if chained else [Product(*spread)]
        self.gates = nn.ModuleList(gates)
        self.bias = nn.Parameter(out.bias + spread[0].bias + spread[1].bias, requires_grad=False)
        self.chained = chained

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        z = self.gelu(self.opening(x, self.norm(x)))
        # The deviations of both halves in one kernel, which reads `z` once.
        scales = self.half_norms(z.reshape(-1, 2, z.shape[1] // 2))
        gated_u = self.grid(z, size, scales[:, 0:1].reshape(-1, 1))
        gated_v = self.block(z, size, scales[:, 1:2].reshape(-1, 1))
        if self.chained:
            gates = self.gates[1](gated_v) + self.gates[0](gated_u)
        else:
            gates = self.gates[0](torch.cat([gated_u, gated_v], dim=1))
        out: Tensor = x + (gates + self.shortcut(z) + self.bias)
        return out


def means_of(x: Tensor, height: int = 2) -> Tensor:
    """Means over the rows and columns of an image, the axes `height` and `height + 1`: `[N, C]`.

    First along the columns. Some backends add positions one after the other. A single sum over
        millions of positions then loses digits even in float32: 1 % of the mean at 1024 x 1024.
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
    """RCAB. With `shared_layouts` both convolutions run on one map, and only tokens return."""

    def __init__(self, literal: attention.ResidualChannelAttention, rewrites: Rewrites) -> None:
        super().__init__()
        self.norm = Norm(literal.LayerNorm)
        self.conv1 = Convolution(Kernel.of(literal.conv1), padding=1)
        self.conv2 = Convolution(Kernel.of(literal.conv2), padding=1)
        self.attention = DeploymentChannelAttention(literal.channel_attention, rewrites)
        self.shared = rewrites.shared_layouts

    def forward(self, x: Tensor, size: Size, *, as_map: bool = False) -> Tensor:
        """`[pixels, C]` to the same, or to a map `[N, C, H, W]`."""
        y = F.leaky_relu(self.conv1(size.map(self.norm(x))), LEAKY_SLOPE)
        # For ablation: the sum separates the pair of layout changes, which would cancel out.
        if not self.shared:
            y = size.map(size.tokens(y) + 0.0)
        y = self.conv2(y)
        # Channels last for the product with the weights. The way back to tokens needs this anyway.
        weights = self.attention(means_of(y))
        if as_map:
            return y * weights[:, :, None, None] + size.map(x)
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
        y = self.second(self.gelu(self.first(*normed(self.norm, x))))
        # Tokens of all images lie in one sequence, but each image has its own mean.
        y = y.reshape(*size, y.shape[1])
        y = y * self.attention(means_of(y, height=1))[:, None, None, :]
        return x + y.reshape(-1, y.shape[3])


class GatingWeights(TensorModule):
    """Spatial gating weights of cross gating.

    Both mixes end in a matrix on channels, which commutes with undoing the partition. If the matrix
    comes first (`early_projections`), only the sum and the gate's product read the moved tensor,
    and the builder fuses the move into that kernel.
    """

    def __init__(self, literal: gating.SpatialGatingWeights, rewrites: Rewrites) -> None:
        super().__init__()
        self.norm, projection = norm_then(
            literal.LayerNorm_in, Affine.of(literal.in_project), rewrites
        )
        self.halves = Halves(projection, rewrites)
        # Here Dense_0 belongs to the grid. The published gate adds no 1 to these weights. With it,
        # the picture has an error of 0.45.
        self.grid = SpatialMix(
            literal.Dense_0, literal.grid, grid=True, plus_one=False, rewrites=rewrites
        )
        self.block = SpatialMix(
            literal.Dense_1, literal.block, grid=False, plus_one=False, rewrites=rewrites
        )
        out = Affine.of(literal.out_project)
        channels = out.bias.shape[0]
        parts = out.rows(0, channels), out.rows(channels, 2 * channels)
        self.out: nn.ModuleList | MatrixOfParts
        if rewrites.early_projections:
            self.out = nn.ModuleList(map(Product, parts))
            self.bias = nn.Parameter(out.bias.clone(), requires_grad=False)
        else:
            self.out = MatrixOfParts([parts[0].plus_bias(out.bias), parts[1]], rewrites)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        u, v = self.halves(*normed(self.norm, x))
        if isinstance(self.out, MatrixOfParts):
            return self.out(self.grid(u, size), self.block(v, size))
        mixed_u = self.grid(u, size, after=self.out[0])
        return mixed_u + self.block(v, size, after=self.out[1]) + self.bias


class CrossGate(nn.Module):
    """Cross gating without its two opening 1x1 convolutions, which the callers apply.

    With the gated `g_x` and `g_y`, `y' = g_y W_y + y` and `x' = g_x W_x + y' + x`. If nothing reads
    `y'`, `joined_gates` makes one product of both: `x' = [g_x g_y] [W_x; W_y] + y + x`.

    Args:
        literal: the block.
        rewrites: which to use.
        joined: whether the caller uses only x. Not for full size, where joined gates would raise
            the peak memory.
    """

    def __init__(
        self, literal: gating.CrossGating, rewrites: Rewrites, *, joined: bool = False
    ) -> None:
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
        out_x, out_y = Affine.of(literal.out_project_x), Affine.of(literal.out_project_y)
        self.joined = joined and rewrites.joined_gates
        if self.joined:
            both = Affine(torch.cat([out_x.weight, out_y.weight]), out_x.bias + out_y.bias)
            self.out = Matrix(both, rewrites)
        else:
            self.out_x, self.out_y = Matrix(out_x, rewrites), Matrix(out_y, rewrites)

    def forward(self, x: Tensor, y: Tensor, size: Size) -> tuple[Tensor, Tensor | None]:
        """Two `[pixels, C]` to two `[pixels, C]`; the second is None if unused."""
        u = self.gelu(self.in_x(*normed(self.norm_x, x)))
        v = self.gelu(self.in_y(*normed(self.norm_y, y)))
        # x takes the gated y, but the weights of both come from the projections before gating.
        # Another order causes errors of 0.08 to 0.6.
        if self.joined:
            gated = torch.cat([u * self.weights_y(v, size), v * self.weights_x(u, size)], dim=1)
            return self.out(gated) + y + x, None
        y = self.out_y(v * self.weights_x(u, size)) + y
        x = self.out_x(u * self.weights_y(v, size)) + (y + x)
        return x, y


class Groups(TensorModule):
    """The groups of an encoder, decoder or bottleneck block, with the shortcut around them.

    A block ends in the sum of a convolution's result and two shortcuts. If a convolution reads the
    sum, `residual_maps` adds it as a map. Tokens are then another view of the kernel's result,
    while a map made from tokens would be a copy.

    Args:
        literal: the block.
        groups: number of groups.
        rewrites: which to use.
        level: level of the block; 0 is full size.
        as_map: whether the result is a map.
    """

    def __init__(
        self,
        literal: nn.Module,
        groups: int,
        rewrites: Rewrites,
        *,
        level: int,
        as_map: bool = False,
    ) -> None:
        super().__init__()
        self.as_map = as_map and rewrites.residual_maps
        self.steps = nn.ModuleList()
        for k in range(groups):
            mixer = literal.get_submodule(f"SplitHeadMultiAxisGmlpLayer_{k}")
            assert isinstance(mixer, gmlp.MultiAxisGmlp)
            self.steps.append(
                JoinedMultiAxis(mixer, rewrites, chained=level == 0)
                if (rewrites.joined_halves if level else rewrites.full_size_halves)
                else MultiAxis(mixer, rewrites)
            )
            # Published names differ by an underscore: `_1_0` in the bottleneck, `_10` elsewhere.
            dense = getattr(literal, f"channel_attention_block_1_{k}", None)
            self.steps.append(
                DenseAttention(dense, rewrites)
                if dense is not None
                else ConvolutionalAttention(
                    getattr(literal, f"channel_attention_block_1{k}"), rewrites
                )
            )

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same, or to a map `[N, C, H, W]`, see `as_map`."""
        shortcut = x
        for step in self.steps[:-1]:
            x = step(x, size)
        last: TensorModule = self.steps[-1]  # type: ignore[assignment]  # so are all
        if self.as_map:
            return last(x, size, as_map=True) + size.map(shortcut)
        return last(x, size) + shortcut
