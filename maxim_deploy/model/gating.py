"""Cross gating: two feature maps weigh each other. Source: arXiv 2201.02973, section 3.3."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.model.gmlp import BLOCK_AXIS, GRID_AXIS, Partition, mix
from maxim_deploy.model.primitives import ConvUp, LayerNorm


class SpatialGatingWeights(nn.Module):
    """Gating weights from features: half of the channels mixed globally, half locally."""

    def __init__(self, channels: int, block: int, grid: int) -> None:
        super().__init__()
        self.block, self.grid = block, grid
        self.LayerNorm_in = LayerNorm(channels)
        self.in_project = nn.Linear(channels, 2 * channels)
        self.Dense_0 = nn.Linear(grid * grid, grid * grid)
        self.Dense_1 = nn.Linear(block * block, block * block)
        self.out_project = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same."""
        x = F.gelu(self.in_project(self.LayerNorm_in(x)), approximate="tanh")
        # The first half belongs to the grid: the published Dense_0 mixes it.
        u, v = x.chunk(2, dim=-1)
        grid, blocks = Partition.into_grid(u, self.grid), Partition.into_blocks(v, self.block)
        u = grid.merge(mix(self.Dense_0, grid.split(u), GRID_AXIS))
        v = blocks.merge(mix(self.Dense_1, blocks.split(v), BLOCK_AXIS))
        projected: Tensor = self.out_project(torch.cat([u, v], dim=-1))
        return projected


class CrossGating(nn.Module):
    """Cross-gating block; `upsample_from` is y's channel count if y has half the resolution."""

    def __init__(
        self,
        channels: int,
        block: int,
        grid: int,
        *,
        x_channels: int | None = None,
        upsample_from: int | None = None,
    ) -> None:
        super().__init__()
        self.ConvTranspose_0 = ConvUp(upsample_from, channels) if upsample_from else None
        self.Conv_0 = nn.Linear(x_channels or channels, channels)
        self.Conv_1 = nn.Linear(channels, channels)
        self.LayerNorm_x = LayerNorm(channels)
        self.in_project_x = nn.Linear(channels, channels)
        self.SplitHeadMultiAxisGating_x = SpatialGatingWeights(channels, block, grid)
        self.out_project_x = nn.Linear(channels, channels)
        self.LayerNorm_y = LayerNorm(channels)
        self.in_project_y = nn.Linear(channels, channels)
        self.SplitHeadMultiAxisGating_y = SpatialGatingWeights(channels, block, grid)
        self.out_project_y = nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x `[N, H, W, Cx]` and y, of x's size or half of it, to two `[N, H, W, C]`."""
        if self.ConvTranspose_0 is not None:
            y = self.ConvTranspose_0(y)
        shortcut_x = x = self.Conv_0(x)
        shortcut_y = y = self.Conv_1(y)
        x = F.gelu(self.in_project_x(self.LayerNorm_x(x)), approximate="tanh")
        y = F.gelu(self.in_project_y(self.LayerNorm_y(y)), approximate="tanh")
        weights_x = self.SplitHeadMultiAxisGating_x(x)
        weights_y = self.SplitHeadMultiAxisGating_y(y)
        # Each side is gated by the weights of the other.
        y = self.out_project_y(y * weights_x) + shortcut_y
        # This `y` is the new one, including its shortcut, as in training.
        x = self.out_project_x(x * weights_y) + y + shortcut_x
        return x, y
