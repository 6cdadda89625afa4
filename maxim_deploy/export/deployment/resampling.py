"""Resizing between levels on maps `[N, C, H, W]`, and the sums over levels that open blocks.

Attribute names are an interface: see `maxim_deploy.export.deployment.network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.errors import UsageError
from maxim_deploy.export.deployment.algebra import Affine, Kernel, chain, chain_transposed
from maxim_deploy.export.deployment.modules import Convolution, Matrix, Size, TensorModule
from maxim_deploy.export.deployment.rewrites import Rewrites


class Enlarge(TensorModule):
    """Bilinear enlargement by 2 or 4 with half-pixel centres, clamped at the edges.

    In the graph it is one Resize over the last two axes with constant scales, so no sizes are
        computed. A Resize over the middle axes of tokens would need no layout change, but TensorRT
        for RTX has no kernel for it: it gathers the neighbours of every pixel into 16 tensors of
        full size, and S-2 took 20 kB per pixel. It fuses layout changes around a Resize of maps.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, C, f H, f W]`."""
        factor = self.factor
        height, width = x.shape[2] * factor, x.shape[3] * factor
        # Written as an operator: the exporter would compute target sizes rather than use constant
        # scales.
        if torch.onnx.is_in_onnx_export():
            return torch.onnx.ops.symbolic(
                "Resize",
                (x, None, torch.tensor([1.0, 1.0, factor, factor])),
                {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
                dtype=x.dtype,
                shape=(x.shape[0], x.shape[1], height, width),
                version=19,
            )
        return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


class Shrink(TensorModule):
    """Antialiased bilinear shrinking by 2 or 4.

    It is a triangle of 2f taps at stride f, `(1 3 ... 3 1) / 2f²` per axis: a depthwise convolution
    with zero padding f/2. At the border the outer taps are dropped and the rest is renormalised.
    They are 1/8 of the sum (f = 2: 1 of 8, f = 4: 1 + 3 of 32), so the first and last row and
    column are divided by 7/8. TensorRT has no Resize with antialias.

    Args:
        factor: 2 or 4.
        rewrites: which to use.
        matrix: matrix whose weight, without bias, joins the convolution; see `FromAbove`.
    """

    BORDER = 8 / 7

    def __init__(self, factor: int, rewrites: Rewrites, matrix: Affine | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.depthwise = matrix is None
        half = torch.arange(1, 2 * factor, 2, dtype=torch.float64) / (2 * factor**2)
        taps = torch.cat([half, half.flip(0)])
        self.kernel: Tensor | None = None
        if rewrites.convolutional_shrink:
            # Also exact in float16 and bfloat16: small odd numbers over a power of two.
            kernel = torch.outer(taps, taps)[None, None]
            if matrix is not None:
                kernel = matrix.weight.T[:, :, None, None] * kernel
            self.kernel = nn.Parameter(kernel, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, C, H/f, W/f]`. If folded, C becomes the matrix's channels.

        Raises:
            UsageError: a side is not a multiple of f, or is so small that one row or column touches
                both borders.
        """
        height, width = x.shape[2] // self.factor, x.shape[3] // self.factor
        if self.kernel is None:
            return F.interpolate(
                x, size=(height, width), mode="bilinear", align_corners=False, antialias=True
            )
        if not torch.compiler.is_exporting() and any(
            side % self.factor or side < 2 * self.factor for side in x.shape[2:]
        ):
            raise UsageError(
                f"shrinking by {self.factor} needs sides that are multiples of it and at least "
                f"{2 * self.factor}, not {x.shape[2]}x{x.shape[3]}"
            )
        groups = x.shape[1] if self.depthwise else 1
        kernel = self.kernel.expand(groups, -1, -1, -1) if self.depthwise else self.kernel
        y = F.conv2d(x, kernel, stride=self.factor, padding=self.factor // 2, groups=groups)
        # `new_ones`: a constant of another type would mix types in a low-precision graph.
        rows = F.pad(y.new_ones(1, 1, height - 2, 1), (0, 0, 1, 1), value=self.BORDER)
        columns = F.pad(y.new_ones(1, 1, 1, width - 2), (1, 1, 0, 0), value=self.BORDER)
        return y * (rows * columns)


class FromBelow(TensorModule):
    """Enlarge a deeper level's map and multiply it by a matrix.

    A matrix on channels commutes with a resize, whose weights sum to 1 and so preserve a bias.
    Applied first (`small_projections`), it processes 4 or 16 times fewer pixels.
    """

    def __init__(self, levels: int, matrix: Affine, rewrites: Rewrites) -> None:
        super().__init__()
        self.enlarge = Enlarge(2**levels)
        self.matrix = Convolution(_kernel(matrix))
        self.matrix_first = rewrites.small_projections

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C_in, H, W]` to `[N, C, f H, f W]`."""
        if self.matrix_first:
            return self.enlarge(self.matrix(x))
        return self.matrix(self.enlarge(x))


class FromAbove(TensorModule):
    """Shrink a higher level's map and multiply it by a matrix.

    Shrinking is a depthwise convolution `k` and a factor per row and column, `d (k * x)`. The next
    matrix joins the kernel (`folded_shrinks`): `(d (k * x)) W + b = d ((k W) * x) + b`. The
    convolution is then dense, and the shrunk map is never written.
    """

    def __init__(self, levels: int, matrix: Affine, rewrites: Rewrites) -> None:
        super().__init__()
        self.folded = rewrites.folded_shrinks and rewrites.convolutional_shrink
        self.shrink = Shrink(2**levels, rewrites, matrix if self.folded else None)
        if self.folded:
            self.bias = nn.Parameter(matrix.bias[:, None, None].clone(), requires_grad=False)
        else:
            self.matrix = Convolution(_kernel(matrix))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C_in, H, W]` to `[N, C, H/f, W/f]`."""
        shrunk = self.shrink(x)
        return shrunk + self.bias if self.folded else self.matrix(shrunk)


def _kernel(matrix: Affine) -> Kernel:
    return Kernel(matrix.weight.T[:, :, None, None], matrix.bias)


class Opening(TensorModule):
    """The opening 1x1 convolution of a block with inputs from all levels, `[e s2 s1 s0] W + b`.

    Each source is first resized and projected, `s_k = R(f_k) P_k + p_k`. Only a decoder has `e`.
    With `folded_chains` every source has one matrix `P_k W_k`, and the products are summed, so the
    concatenation at full size never exists. The part of `W` for `e` is folded into the layer that
    makes `e`, see `ahead_of`.

    Args:
        opening: `W` and `b`.
        ratios: (source level, `P_k`) in the order of the rows of `W`.
        target: level of the block.
    """

    def __init__(
        self,
        opening: Affine,
        ratios: Sequence[tuple[int, Affine]],
        target: int,
        rewrites: Rewrites,
    ) -> None:
        super().__init__()
        self.target, self.order = target, [source for source, _ in ratios]
        self.joined = None if rewrites.folded_chains else Matrix(opening, rewrites)
        self.others = nn.ModuleDict()
        channels = opening.bias.shape[0]
        start = opening.weight.shape[0] - channels * len(ratios)
        matrices = {}
        for k, (source, ratio) in enumerate(ratios):
            rows = opening.rows(start + k * channels, start + (k + 1) * channels)
            matrices[source] = chain(ratio, rows) if rewrites.folded_chains else ratio
        # The block's own level needs neither a resize nor a layout change.
        own = matrices.pop(target)
        if rewrites.folded_chains:
            # The sum of the other levels replaces the bias of the own level's matrix.
            first = next(iter(matrices))
            matrices[first] = matrices[first].plus_bias(opening.bias + own.bias)
        self.own = Matrix(own, rewrites)
        for source, matrix in matrices.items():
            kind = FromBelow if source > target else FromAbove
            self.others[str(source)] = kind(abs(source - target), matrix, rewrites)

    def forward(
        self, tokens: Tensor, maps: Mapping[int, Tensor], size: Size, ahead: Tensor | None = None
    ) -> Tensor:
        """Features of all levels to the tokens of the target level.

        Args:
            tokens: of the target level.
            maps: of the other levels.
            size: of the target level.
            ahead: `e` as tokens, already multiplied by its part of `W` if chains are folded.
        """
        resized = {
            source: self.others[str(source)](maps[source])
            for source in self.order
            if source != self.target
        }
        first = [] if ahead is None else [ahead]
        if self.joined is None:
            # TensorRT computes the first summand first. If the enlarged tokens came first, they
            # would stay in memory while the other levels are resized: 7 % of the memory of S-2.
            others = size.tokens(sum_of([*resized.values()]))
            return self.own(tokens, addend=sum_of([others, *first]))
        parts = {source: size.tokens(x) for source, x in resized.items()}
        parts[self.target] = self.own(tokens)
        return self.joined(torch.cat([*first, *(parts[source] for source in self.order)], dim=1))


def ahead_of(opening: Affine, kernel: Kernel, rewrites: Rewrites) -> Kernel:
    """A transposed convolution whose result comes first in an opening's concatenation."""
    if not rewrites.folded_chains:
        return kernel
    return chain_transposed(kernel, opening.rows(0, kernel.bias.shape[0]))


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """The sum, from the left."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
