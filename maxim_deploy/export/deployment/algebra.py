"""Linear algebra on weights, in float64: what the folding rewrites do to numbers.

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
        """The matrix of an `nn.Linear`. Raises `ExportError` for any other layer."""
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            raise ExportError(f"cannot fold {layer}: expected a Linear with a bias")
        # In float64, so that a chain of folds is rounded once, when its result becomes a parameter.
        return cls(layer.weight.double().T, layer.bias.double())

    def rows(self, start: int, stop: int) -> Affine:
        """The part for some input channels; all parts share one bias, so this one has none."""
        return Affine(self.weight[start:stop], torch.zeros_like(self.bias))

    def columns(self, start: int, stop: int) -> Affine:
        """The part that makes some output channels."""
        return Affine(self.weight[:, start:stop], self.bias[start:stop])

    def plus_bias(self, bias: Tensor) -> Affine:
        """The same with more bias."""
        return Affine(self.weight, self.bias + bias)


class Kernel(NamedTuple):
    """A convolution's `weight` (any of PyTorch's layouts) and `bias` `[out]`, float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module) -> Kernel:
        """The kernel of an `nn.Conv2d` or `nn.ConvTranspose2d`. Raises `ExportError` for others."""
        # A depthwise kernel has no axis of inputs that a matrix could be multiplied into.
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
    """A transposed convolution `[in, mid, kh, kw]`, then a matrix, in the same way."""
    weight = torch.einsum("imkl,mo->iokl", first.weight, second.weight)
    return Kernel(weight, first.bias @ second.weight + second.bias)


def behind_norm(norm: nn.Module, matrix: Affine) -> Affine:
    """LayerNorm's scale s and shift t join the matrix: `(n s + t) W + b = n (s W) + (t W + b)`.

    Not before a zero-padded 3x3 convolution: there the shift would also have to be left out at the
    border, and folding the scale alone saves nothing, as LayerNormalization applies both at once.
    For the same reason not before a spatial matrix: `W (n s + t) = (W n) s + rowsum(W) t`, one
    multiplication more, for nothing.
    """
    if not isinstance(norm, nn.LayerNorm) or norm.bias is None:
        raise ExportError(f"cannot fold {norm}: expected a LayerNorm with scale and shift")
    # The row of W that a channel meets takes its scale; all rows together take the shift.
    scale, shift = norm.weight.double(), norm.bias.double()
    return Affine(scale[:, None] * matrix.weight, shift @ matrix.weight + matrix.bias)


def behind_deviation(norm: nn.Module, matrix: Affine) -> Affine:
    """LayerNorm's mean joins the matrix as well: `(x - m 1) W = x W'`.

    `m = x 1^T / C`, so `W'` is `W` with the mean of each column subtracted. The factor per row,
    `modules.Deviation`, stays for the product's result.
    """
    folded = behind_norm(norm, matrix)
    return Affine(folded.weight - folded.weight.mean(dim=0, keepdim=True), folded.bias)
