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
    only the partition itself moves data: in a block `V` is `[n, C]`; across the grid the images,
    all positions of a cell and all channels lie behind the mixed axis, `[n, N * cell * C]`, one
    large product, and as Gemm it takes the bias along.

    A partition swaps two axes of `[N, rows, row, columns, column * C]`, in pieces of whole runs of
    columns. The literal gate multiplies by `v + 1`: `plus_one` puts the 1 into the bias.

    What acts on every position by itself commutes with a partition, so that a caller may have it
    done inside. A norm before the mix (`partitioned_norms`): TensorRT makes two kernels of a
    LayerNorm that a transpose follows, with a float32 tensor between them. A matrix after the mix
    (`early_projections`): what undoes the partition is then fused into whatever follows.
    """

    def __init__(
        self, dense: nn.Linear, side: int, *, grid: bool, plus_one: bool, rewrites: Rewrites
    ) -> None:
        super().__init__()
        self.side, self.grid = side, grid
        self.left, self.gemm = rewrites.left_matrices, rewrites.gemms
        # A Linear keeps W^T, which is the factor that stands on the left. It is square, so that a
        # transposed one would pass every check of shapes.
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
            tokens: of a map of `size`.
            size: of the map.
            before: applied to each position's channels between partition and mix.
            after: the same between the mix and what undoes the partition; takes `[pixels, C]`.
        """
        mixed = self._over_grid if self.grid else self._over_blocks
        return mixed(tokens, size, before, after).reshape(-1, tokens.shape[1])

    def _over_blocks(
        self, tokens: Tensor, size: Size, before: TensorModule | None, after: TensorModule | None
    ) -> Tensor:
        side, channels = self.side, tokens.shape[1]
        rows, columns = size.height // side, size.width // side
        # A row of a block and its channels lie together in memory and move as one piece.
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
        # Gemm takes matrices only. Across the grid there is one, over blocks a batch of them.
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
        """`[.., n, rest]` to the same, with the mixed axis last in between."""
        return (torch.matmul(x.transpose(-1, -2), self.weight.T) + self.bias).transpose(-1, -2)
