"""Linear algebra on weights in float64, for the folding rewrites.

A channel matrix acts on rows, `y = x W + b`, with `W` of `[in, out]`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from maxim_deploy.errors import ExportError


class Affine(NamedTuple):
    """`x W + b` with `weight` `[in, out]` and `bias` `[out]`, float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module) -> Affine:
        """The matrix of an `nn.Linear`. Raises `ExportError` for other layers."""
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            raise ExportError(f"cannot fold {layer}: expected a Linear with a bias")
        # In float64, so a chain of folds is rounded only once, when its result becomes a parameter.
        return cls(layer.weight.double().T, layer.bias.double())

    def rows(self, start: int, stop: int) -> Affine:
        """The rows of some input channels, without the bias, which all parts share."""
        return Affine(self.weight[start:stop], torch.zeros_like(self.bias))

    def columns(self, start: int, stop: int) -> Affine:
        """The columns of some output channels."""
        return Affine(self.weight[:, start:stop], self.bias[start:stop])

    def plus_bias(self, bias: Tensor) -> Affine:
        """This matrix with an addition to its bias."""
        return Affine(self.weight, self.bias + bias)


class Kernel(NamedTuple):
    """A convolution's `weight` (any of PyTorch's layouts) and `bias` `[out]`, float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module) -> Kernel:
        """The kernel of an `nn.Conv2d` or `nn.ConvTranspose2d`. Raises `ExportError` for others."""
        # A depthwise kernel has no input axis to multiply a matrix into.
        if (
            not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            or layer.bias is None
            or layer.groups != 1
        ):
            raise ExportError(f"cannot fold {layer}: expected a convolution with a bias, ungrouped")
        return cls(layer.weight.double(), layer.bias.double())


def chain(first: Affine, second: Affine) -> Affine:
    """Two matrices in a row: `(x W1 + b1) W2 + b2 = x (W1 W2) + (b1 W2 + b2)`."""
    return Affine(first.weight @ second.weight, first.bias @ second.weight + second.bias)


def chain_convolution(first: Kernel, second: Affine) -> Kernel:
    """A convolution `[mid, in, kh, kw]`, then a matrix: every tap is multiplied by the matrix.

    `W' = sum over mid of K[mid, in, :, :] W[mid, out]`. Zero padding stays exact, because padded
    pixels contribute nothing to either side.
    """
    weight = torch.einsum("mikl,mo->oikl", first.weight, second.weight)
    return Kernel(weight, first.bias @ second.weight + second.bias)


def chain_transposed(first: Kernel, second: Affine) -> Kernel:
    """A transposed convolution `[in, mid, kh, kw]`, then a matrix, as for `convolve_then`."""
    weight = torch.einsum("imkl,mo->iokl", first.weight, second.weight)
    return Kernel(weight, first.bias @ second.weight + second.bias)


def behind_norm(norm: nn.Module, matrix: Affine) -> Affine:
    """LayerNorm's scale s and shift t join the matrix: `(n s + t) W + b = n (s W) + (t W + b)`.

    This does not apply before a zero-padded 3x3 convolution: the shift would have to be omitted at
    the border, and folding the scale alone saves nothing, because LayerNormalization applies both
    at once. It does not pay before a spatial matrix either: `W (n s + t) = (W n) s + rowsum(W) t`
    needs another multiplication.
    """
    if not isinstance(norm, nn.LayerNorm) or norm.bias is None:
        raise ExportError(f"cannot fold {norm}: expected a LayerNorm with scale and shift")
    # Each row of W takes the scale of its channel. The bias takes the shift through all rows.
    scale, shift = norm.weight.double(), norm.bias.double()
    return Affine(scale[:, None] * matrix.weight, shift @ matrix.weight + matrix.bias)


def behind_deviation(norm: nn.Module, matrix: Affine) -> Affine:
    """LayerNorm's mean also joins the matrix: `(x - m 1) W = x W'`.

    `m = x 1^T / C`, so `W'` is `W` minus the mean of each column. The factor per row,
    `modules.Deviation`, is applied to the product.
    """
    folded = behind_norm(norm, matrix)
    return Affine(folded.weight - folded.weight.mean(dim=0, keepdim=True), folded.bias)
