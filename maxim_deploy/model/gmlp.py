"""Multi-axis gated MLPs: spatial mixing inside blocks (local) and across a grid (global).

Source: arXiv 2201.02973, section 3.2. Both partitions have a fixed number of mixed positions
(256 or 64), so one set of weights serves every resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.model.primitives import LayerNorm

GRID_AXIS, BLOCK_AXIS = 1, 2
"""The mixed axis of `[N, cells, positions, C]`: cells mixes the same position in all cells,
positions mixes all positions of one cell."""


class Partition(NamedTuple):
    """A feature map cut into `cells` (rows, columns), each of `positions` (rows, columns)."""

    cells: tuple[int, int]
    positions: tuple[int, int]

    @classmethod
    def into_blocks(cls, x: Tensor, size: int) -> Partition:
        """Blocks of `size` x `size`. Their number depends on the image."""
        return cls((x.shape[1] // size, x.shape[2] // size), (size, size))

    @classmethod
    def into_grid(cls, x: Tensor, size: int) -> Partition:
        """A grid of `size` x `size` cells. Their size depends on the image."""
        return cls((size, size), (x.shape[1] // size, x.shape[2] // size))

    def split(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to `[N, cells, positions, C]`."""
        (gh, gw), (fh, fw) = self
        # [N, gh, fh, gw, fw, C] to [N, gh, gw, fh, fw, C]: the one copy that a partition takes.
        x = x.reshape(x.shape[0], gh, fh, gw, fw, x.shape[3]).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(x.shape[0], gh * gw, fh * fw, x.shape[5])

    def merge(self, x: Tensor) -> Tensor:
        """`[N, cells, positions, C]` to `[N, H, W, C]`, the inverse of `split`."""
        (gh, gw), (fh, fw) = self
        x = x.reshape(x.shape[0], gh, gw, fh, fw, x.shape[3]).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(x.shape[0], gh * fh, gw * fw, x.shape[5])


def mix(dense: nn.Module, x: Tensor, axis: int) -> Tensor:
    """Apply `dense`, which works on the last axis, along `axis`."""
    # Both exchanges of axes are views, which copy nothing.
    mixed: Tensor = dense(x.swapaxes(axis, -1))
    return mixed.swapaxes(axis, -1)


class GatingUnit(nn.Module):
    """Spatial gating: one half of the channels, mixed over positions, gates the other half."""

    def __init__(self, channels: int, positions: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.intermediate_layernorm = LayerNorm(channels)
        self.Dense_0 = nn.Linear(positions, positions)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, cells, positions, 2C]` to `[N, cells, positions, C]`."""
        u, v = x.chunk(2, dim=-1)
        v = mix(self.Dense_0, self.intermediate_layernorm(v), self.axis)
        # Weights are near zero at the start of training. Plus one opens the gate then.
        return u * (v + 1.0)


class _GmlpLayer(nn.Module):
    """Gated MLP over one partition. Subclasses define the partition and own the gating unit."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.LayerNorm = LayerNorm(channels)
        self.in_project = nn.Linear(channels, 2 * channels)
        self.out_project = nn.Linear(channels, channels)

    def _gated(self, x: Tensor, partition: Partition, gating_unit: nn.Module) -> Tensor:
        # Layers over channels do not depend on positions, so one partition serves all three.
        x = partition.split(x)
        y = F.gelu(self.in_project(self.LayerNorm(x)), approximate="tanh")
        return partition.merge(x + self.out_project(gating_unit(y)))


class BlockGmlpLayer(_GmlpLayer):
    """Local mixing: over the positions inside each block of `size` x `size`."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels)
        self.size = size
        self.BlockGatingUnit = GatingUnit(channels, size * size, BLOCK_AXIS)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same; H and W multiples of `size`."""
        return self._gated(x, Partition.into_blocks(x, self.size), self.BlockGatingUnit)


class GridGmlpLayer(_GmlpLayer):
    """Global mixing: over the same position in all `size` x `size` cells of a grid."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels)
        self.size = size
        self.GridGatingUnit = GatingUnit(channels, size * size, GRID_AXIS)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same; H and W multiples of `size`."""
        return self._gated(x, Partition.into_grid(x, self.size), self.GridGatingUnit)


class MultiAxisGmlp(nn.Module):
    """Multi-axis gMLP block: half of the channels mixed globally, half locally."""

    def __init__(self, channels: int, block: int, grid: int) -> None:
        super().__init__()
        self.LayerNorm_in = LayerNorm(channels)
        self.in_project = nn.Linear(channels, 2 * channels)
        self.GridGmlpLayer = GridGmlpLayer(channels, grid)
        self.BlockGmlpLayer = BlockGmlpLayer(channels, block)
        self.out_project = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same."""
        y = F.gelu(self.in_project(self.LayerNorm_in(x)), approximate="tanh")
        # Global before local, in the order of the channels of the published `out_project`.
        u, v = y.chunk(2, dim=-1)
        y = torch.cat([self.GridGmlpLayer(u), self.BlockGmlpLayer(v)], dim=-1)
        projected: Tensor = self.out_project(y)
        return x + projected
