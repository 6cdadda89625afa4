"""Spatial mixing inside blocks and across a grid, on tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maxim_deploy.export.deployment.modules import Size, TensorModule
from maxim_deploy.export.deployment.rewrites import Rewrites


class SpatialMix(TensorModule):
    """Mix positions over `side` x `side` blocks, or over the cells of a `side` x `side` grid.

    The literal network moves the mixed axis to the end, multiplies from the right and moves it
        back: `(V^T W + b)^T` with `V` of `[n, rest]`. That equals `W^T V + b`, a product from the
        left, so only the partition moves data. In a block `V` is `[n, C]`. Across the grid, images,
        positions of a cell and channels follow the mixed axis: `[n, N * cell * C]`. This is one
        large product, and Gemm includes the bias.

    A partition swaps two axes of `[N, rows, row, columns, column * C]` and moves whole runs of
    columns. The literal gate multiplies by `v + 1`; `plus_one` puts the 1 into the bias.

    Operations on single positions commute with a partition, so a caller may run them inside. A norm
    before the mix (`partitioned_norms`) avoids a transpose after LayerNorm, for which TensorRT
    makes two kernels with a float32 tensor between them. A matrix after the mix
    (`early_projections`) lets TensorRT fuse the undoing of the partition into the next kernel.
    """

    def __init__(
        self, dense: nn.Linear, side: int, *, grid: bool, plus_one: bool, rewrites: Rewrites
    ) -> None:
        super().__init__()
        self.side, self.grid = side, grid
        self.left, self.gemm = rewrites.left_matrices, rewrites.gemms
        # A Linear stores W^T, which is the left factor. It is square, so shapes do not reveal a
        # wrong transposition.
        self.weight = nn.Parameter(dense.weight.clone(), requires_grad=False)
        bias = dense.bias + 1.0 if plus_one else dense.bias.clone()
        self.bias = nn.Parameter(bias[:, None] if self.left else bias, requires_grad=False)

    def forward(
        self,
        tokens: Tensor,
        size: Size,
        *,
        before: TensorModule | None = None,
        after: TensorModule | None = None,
    ) -> Tensor:
        """`[pixels, C]` to the same.

        Args:
            tokens: tokens of a map of `size`.
            size: of the map.
            before: applied to the channels of each position between partition and mix.
            after: applied to `[pixels, C]` between the mix and the undoing of the partition.
        """
        mixed = self._over_grid if self.grid else self._over_blocks
        return mixed(tokens, size, before, after).reshape(-1, tokens.shape[1])

    def _over_blocks(
        self, tokens: Tensor, size: Size, before: TensorModule | None, after: TensorModule | None
    ) -> Tensor:
        side, channels = self.side, tokens.shape[1]
        rows, columns = size.height // side, size.width // side
        # A row of a block with its channels is contiguous in memory and moves as one piece.
        x = tokens.reshape(size.batch, rows, side, columns, side * channels)
        x = x.permute(0, 1, 3, 2, 4).reshape(-1, side * side, channels)
        if before is not None:
            x = before(x)
        x = torch.matmul(self.weight, x) + self.bias if self.left else self._from_right(x)
        if after is not None:
            x = after(x.reshape(-1, channels))
        x = x.reshape(size.batch, rows, columns, side, side * channels)
        return x.permute(0, 1, 3, 2, 4)

    def _over_grid(
        self, tokens: Tensor, size: Size, before: TensorModule | None, after: TensorModule | None
    ) -> Tensor:
        side, channels = self.side, tokens.shape[1]
        rows, columns = size.height // side, size.width // side
        x = tokens.reshape(size.batch, side, rows, side, columns * channels)
        x = x.permute(1, 3, 0, 2, 4)
        if before is not None:
            x = before(x.reshape(-1, channels))
        x = x.reshape(side * side, -1)
        # Gemm needs a single matrix. The grid has one, but blocks are a batch.
        if not self.left:
            x = self._from_right(x)
        elif self.gemm:
            x = torch.addmm(self.bias, self.weight, x)
        else:
            x = torch.matmul(self.weight, x) + self.bias
        if after is not None:
            x = after(x.reshape(-1, channels))
        x = x.reshape(side, side, size.batch, rows, columns * channels)
        return x.permute(2, 0, 3, 1, 4)

    def _from_right(self, x: Tensor) -> Tensor:
        """`[.., n, rest]` to the same. The mixed axis is last in between."""
        return (torch.matmul(x.transpose(-1, -2), self.weight.T) + self.bias).transpose(-1, -2)
