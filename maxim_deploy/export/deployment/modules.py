"""Small modules for the deployment blocks. Tokens are `[pixels, channels]`.

Attribute names are an interface: see `maxim_deploy.export.deployment.network`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.export.deployment.algebra import Affine, Kernel, behind_deviation, behind_norm
from maxim_deploy.export.deployment.rewrites import Rewrites
from maxim_deploy.model.primitives import LAYER_NORM_EPS


class Size(NamedTuple):
    """The size of a feature map. Tokens are its pixels in row order, image after image."""

    batch: int
    height: int
    width: int

    def map(self, features: Tensor) -> Tensor:
        """Convert tokens `[pixels, C]` to a map `[N, C, H, W]`. A map is returned unchanged."""
        if features.ndim == 4:
            return features
        return features.reshape(*self, features.shape[1]).permute(0, 3, 1, 2)

    def tokens(self, features: Tensor) -> Tensor:
        """Convert a map `[N, C, H, W]` to tokens `[pixels, C]`. Tokens are returned unchanged."""
        if features.ndim == 2:
            return features
        return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])

    def at(self, level: int) -> Size:
        """The size of the map `level` levels deeper."""
        # Divided by a constant: dividing dynamic sizes makes symbolic shapes grow exponentially.
        return Size(self.batch, self.height // 2**level, self.width // 2**level)


class TensorModule(nn.Module):
    """A module that returns one tensor, which tells the type checker the type of a call."""

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> Tensor: ...  # noqa: D102


class Matrix(TensorModule):
    """A channel matrix on tokens.

    Gemm is `C + A B` in one operator: the bias, or a whole addend instead, needs no pass over the
    result.
    """

    def __init__(self, matrix: Affine, rewrites: Rewrites) -> None:
        super().__init__()
        self.gemm = rewrites.gemms
        # `[in, out]`, the layout that Gemm reads without a transposition.
        self.weight = nn.Parameter(matrix.weight.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(matrix.bias.clone(), requires_grad=False)

    def forward(
        self, x: Tensor, scale: Tensor | None = None, *, addend: Tensor | None = None
    ) -> Tensor:
        """`[pixels, in]` to `[pixels, out]`, plus the bias, or plus `addend` instead of it.

        Args:
            x: the tokens.
            scale: `[pixels, 1]`, a factor for each row of the product; see `Deviation`.
            addend: `[pixels, out]`.
        """
        c = self.bias if addend is None else addend
        # The builder fuses factor, bias and a following GELU into the product's kernel.
        if scale is not None:
            return (x @ self.weight) * scale + c
        return torch.addmm(c, x, self.weight) if self.gemm else x @ self.weight + c


class Product(TensorModule):
    """A channel matrix without a bias, for sums of products."""

    def __init__(self, *parts: Affine) -> None:
        super().__init__()
        weight = torch.cat([part.weight for part in parts]).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[pixels, in]` to `[pixels, out]`."""
        return x @ self.weight


class MatrixOfParts(TensorModule):
    """A matrix on a concatenation of channels, `[x1 x2 ...] W + b = x1 W1 + x2 W2 + ... + b`."""

    def __init__(self, parts: Sequence[Affine], rewrites: Rewrites) -> None:
        super().__init__()
        # The first product has the bias. Each later one adds to the sum so far.
        bias = torch.stack([part.bias for part in parts]).sum(dim=0)
        first = Affine(parts[0].weight, bias)
        if rewrites.separate_halves:
            self.parts = nn.ModuleList(Matrix(part, rewrites) for part in (first, *parts[1:]))
            self.joined = None
        else:
            weight = torch.cat([part.weight for part in parts])
            self.joined = Matrix(Affine(weight, bias), rewrites)

    def forward(self, *xs: Tensor) -> Tensor:
        """One `[pixels, in_k]` per part to `[pixels, out]`."""
        if self.joined is not None:
            return self.joined(torch.cat(xs, dim=1))
        total: Tensor = self.parts[0](xs[0])
        for x, part in zip(xs[1:], self.parts[1:], strict=True):
            total = part(x, addend=total)
        return total


class Halves(nn.Module):
    """A projection to 2C channels, GELU, and the two halves of the result."""

    def __init__(self, matrix: Affine, rewrites: Rewrites) -> None:
        super().__init__()
        self.gelu = Gelu(rewrites)
        # Two projections need no Split, and the builder fuses GELU into each.
        middle, stop = matrix.bias.shape[0] // 2, matrix.bias.shape[0]
        parts = (
            [matrix.columns(0, middle), matrix.columns(middle, stop)]
            if rewrites.separate_halves
            else [matrix]
        )
        self.parts = nn.ModuleList(Matrix(part, rewrites) for part in parts)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`[pixels, C_in]` to two `[pixels, C]`; `scale` as for `Matrix`."""
        if len(self.parts) == 1:
            first, second = self.gelu(self.parts[0](x, scale)).chunk(2, dim=1)
            return first, second
        return self.gelu(self.parts[0](x, scale)), self.gelu(self.parts[1](x, scale))


class Gelu(TensorModule):
    """GELU in its tanh form: one operator of opset 20, or its formula in nine."""

    def __init__(self, rewrites: Rewrites) -> None:
        super().__init__()
        self.single = rewrites.single_gelu

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, to the same."""
        # The published network uses the tanh form. The exact form differs by 3.7e-4.
        if self.single:
            return F.gelu(x, approximate="tanh")
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


class Norm(TensorModule):
    """LayerNorm over channels, with scale and shift unless they are folded."""

    def __init__(self, literal: nn.LayerNorm, *, plain: bool = False) -> None:
        super().__init__()
        self.channels = literal.normalized_shape
        self.weight = None if plain else nn.Parameter(literal.weight.clone(), requires_grad=False)
        self.bias = None if plain else nn.Parameter(literal.bias.clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[pixels, C]` to the same."""
        # One operator, whose statistics are float32 even if its input is not.
        return F.layer_norm(x, self.channels, self.weight, self.bias, LAYER_NORM_EPS)


class Deviation(TensorModule):
    """The reciprocal of the deviation, in place of a LayerNorm before a matrix.

    Let `m` be the mean of a row and `s = 1 / sqrt(mean((x - m)^2) + eps)`, with scale and shift
    already in the matrix. Then `((x - m) s) W + b = (x W') s + b`, where `W'` is `W` minus the mean
    of each column: `(x - m) W = x W - m 1^T W = x W'`. The normalised tensor is never written to
    memory, and one number per row is cheap.

    `x W'` is stored before normalisation, so an export measures its magnitude. The deviation uses
    the centred row, as in LayerNorm, because `mean(x^2) - m^2` would lose digits by cancellation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[.., C]` to `[.., 1]`."""
        centred = x - x.mean(dim=-1, keepdim=True)
        return torch.rsqrt((centred * centred).mean(dim=-1, keepdim=True) + LAYER_NORM_EPS)


def norm_then(
    norm: nn.LayerNorm, matrix: Affine, rewrites: Rewrites
) -> tuple[Norm | Deviation, Affine]:
    """A norm and the next matrix, with the parts of the norm that the matrix takes over.

    `normed` applies the norm, and the matrix takes both results.
    """
    if rewrites.deviations:
        return Deviation(), behind_deviation(norm, matrix)
    if rewrites.folded_norms:
        return Norm(norm, plain=True), behind_norm(norm, matrix)
    return Norm(norm), matrix


def normed(norm: Norm | Deviation, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The input of the matrix after a norm of `norm_then`, and the factor of the product."""
    return (x, norm(x)) if isinstance(norm, Deviation) else (norm(x), None)


class Convolution(TensorModule):
    """A convolution on maps `[N, C, H, W]`."""

    def __init__(self, kernel: Kernel, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(kernel.weight.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(kernel.bias.clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in, H, W]` to `[N, out, H / stride, W / stride]`."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Enlargement(nn.Module):
    """Several 2x2 transposed convolutions of stride 2 of the same tokens.

    Every pixel becomes its own 2x2 cell. So each convolution is a channel matrix to four times the
    channels, and one swap of axes arranges the cells.
    """

    def __init__(self, kernels: Sequence[Kernel], rewrites: Rewrites) -> None:
        super().__init__()
        self.channels = [kernel.bias.shape[0] for kernel in kernels]
        # [in, out, row, column] to [in, row, column, out], all kernels' outputs side by side
        weight = torch.cat([kernel.weight.permute(0, 2, 3, 1) for kernel in kernels], dim=3)
        bias = torch.cat([kernel.bias for kernel in kernels]).repeat(4)
        self.matrix = Matrix(Affine(weight.flatten(1), bias), rewrites)

    def forward(self, tokens: Tensor, size: Size) -> tuple[Tensor, ...]:
        """`[pixels, in]` of a map of `size` to `[4 pixels, out]` for each kernel."""
        total = sum(self.channels)
        x = self.matrix(tokens).reshape(*size, 2, 2 * total).permute(0, 1, 3, 2, 4)
        x = x.reshape(-1, total)
        return (x,) if len(self.channels) == 1 else torch.split(x, self.channels, dim=1)
