"""Encoder, decoder and bottleneck blocks of one U-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maxim_deploy.model.attention import ResidualChannelAttention, ResidualDenseChannelAttention
from maxim_deploy.model.gating import CrossGating
from maxim_deploy.model.gmlp import MultiAxisGmlp
from maxim_deploy.model.primitives import ConvDown, ConvUp


class EncoderBlock(nn.Module):
    """UNetEncoderBlock: 1x1, groups of multi-axis gMLP and RCAB, cross gating, shrinking."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        size: int,
        groups: int,
        *,
        down: bool = True,
        fuse_previous: bool = False,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.Conv_0 = nn.Linear(in_channels, channels)
        for k in range(groups):
            self.add_module(f"SplitHeadMultiAxisGmlpLayer_{k}", MultiAxisGmlp(channels, size, size))
            self.add_module(f"channel_attention_block_1{k}", ResidualChannelAttention(channels))
        self.cross_gating_block = CrossGating(channels, size, size) if fuse_previous else None
        self.Conv_1 = ConvDown(channels, channels) if down else None

    def forward(
        self, x: Tensor, skip: Tensor, previous: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Features of one level.

        Args:
            x: `[N, H, W, C_x]`.
            skip: `[N, H, W, C_skip]`, concatenated after x.
            previous: encoder plus decoder features of the previous stage, `[N, H, W, C]`. Required
                if and only if the block was built with `fuse_previous`.

        Returns:
            (shrunk `[N, H/2, W/2, C]`, or None for a block without shrinking; full `[N, H, W, C]`).
        """
        shortcut = x = self.Conv_0(torch.cat([x, skip], dim=-1))
        for k in range(self.groups):
            x = self.get_submodule(f"SplitHeadMultiAxisGmlpLayer_{k}")(x)
            x = self.get_submodule(f"channel_attention_block_1{k}")(x)
        x = x + shortcut
        if self.cross_gating_block is not None:
            x, _ = self.cross_gating_block(x, previous)
        return (self.Conv_1(x) if self.Conv_1 is not None else None), x


class DecoderBlock(nn.Module):
    """UNetDecoderBlock: a transposed convolution, then an encoder block that does not shrink."""

    def __init__(
        self, in_channels: int, bridge_channels: int, channels: int, size: int, groups: int
    ) -> None:
        super().__init__()
        self.ConvTranspose_0 = ConvUp(in_channels, channels)
        self.UNetEncoderBlock_0 = EncoderBlock(
            channels + bridge_channels, channels, size, groups, down=False
        )

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        """x `[N, H/2, W/2, C_in]` and bridge `[N, H, W, C_bridge]` to `[N, H, W, C]`."""
        full: Tensor = self.UNetEncoderBlock_0(self.ConvTranspose_0(x), bridge)[1]
        return full


class BottleneckBlock(nn.Module):
    """BottleneckBlock: opening 1x1, then groups of multi-axis gMLP and RDCAB."""

    def __init__(self, channels: int, size: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.input_proj = nn.Linear(channels, channels)
        for k in range(groups):
            self.add_module(f"SplitHeadMultiAxisGmlpLayer_{k}", MultiAxisGmlp(channels, size, size))
            self.add_module(
                f"channel_attention_block_1_{k}", ResidualDenseChannelAttention(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same."""
        shortcut: Tensor = self.input_proj(x)
        x = shortcut
        for k in range(self.groups):
            x = self.get_submodule(f"SplitHeadMultiAxisGmlpLayer_{k}")(x)
            x = self.get_submodule(f"channel_attention_block_1_{k}")(x)
        return x + shortcut
