"""Spatial mixing inside blocks and across a grid, on tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maxim_deploy.export.deployment.modules import Size, TensorModule
from maxim_deploy.export.deployment.rewrites import Rewrites


class SpatialMix(TensorModule):
    """Mixes positions: over `side` x `side` blocks, or over the cells of a `side` x `side` grid.

    Literally the mixed axis is brought last, multiplied from the right and brought back,
    `(V^T W + b)^T` with `V` of `[n, rest]`. That is `W^T V + b`, a product from the left, so that
    only the partition itself moves data: in a block `V` is `[n, C]`; across the grid all positions
    of a cell and all channels lie behind the mixed axis, `[n, cell * C]`, one large product.

    A partition swaps two axes of `[N, rows, row, columns, column * C]`, in pieces of whole runs of
    columns. The literal gate multiplies by `v + 1`: `plus_one` puts the 1 into the bias.
    """

    def __init__(
        self, dense: nn.Linear, side: int, *, grid: bool, plus_one: bool, rewrites: Rewrites
    ) -> None:
        super().__init__()
        self.side, self.grid, self.left = side, grid, rewrites.left_matrices
        self.weight = nn.Parameter(dense.weight.clone(), requires_grad=False)  # W^T, [n, n]
        bias = dense.bias + 1.0 if plus_one else dense.bias.clone()
        self.bias = nn.Parameter(bias[:, None] if self.left else bias, requires_grad=False)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """`[pixels, C]` to the same."""
        batch, channels, side = size.batch, tokens.shape[1], self.side
        rows, columns = size.height // side, size.width // side
        (gh, gw), (fh, fw) = ((side, side), (rows, columns))
        if not self.grid:
            (gh, gw), (fh, fw) = (fh, fw), (gh, gw)
        x = tokens.reshape(batch, gh, fh, gw, fw * channels).permute(0, 1, 3, 2, 4)
        if self.grid:
            x = self._mix(x.reshape(batch, gh * gw, fh * fw * channels))
        else:
            x = self._mix(x.reshape(batch * gh * gw, fh * fw, channels))
        x = x.reshape(batch, gh, gw, fh, fw * channels).permute(0, 1, 3, 2, 4)
        return x.reshape(-1, channels)

    def _mix(self, x: Tensor) -> Tensor:
        """`[any, n, rest]` to the same."""
        if self.left:
            return torch.matmul(self.weight, x) + self.bias
        return (torch.matmul(x.transpose(1, 2), self.weight.T) + self.bias).transpose(1, 2)
