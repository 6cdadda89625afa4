"""Channel attention, the residual blocks around it, and supervised attention between stages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.model.primitives import LEAKY_SLOPE, Conv3x3, LayerNorm
from maxim_deploy.spec.architecture import REDUCTION


class ChannelAttention(nn.Module):
    """Scale each channel by a weight in (0, 1) computed from all channels' means over the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Conv_0 = nn.Linear(channels, channels // REDUCTION)
        self.Conv_1 = nn.Linear(channels // REDUCTION, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same."""
        # The mean is over the whole image. It makes a tile differ from the same part of the whole.
        weights = x.mean(dim=(1, 2), keepdim=True)
        weights = torch.sigmoid(self.Conv_1(F.relu(self.Conv_0(weights))))
        return x * weights


class ResidualChannelAttention(nn.Module):
    """RCAB: two 3x3 convolutions and channel attention, around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.LayerNorm = LayerNorm(channels)
        self.conv1 = Conv3x3(channels, channels)
        self.conv2 = Conv3x3(channels, channels)
        self.channel_attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same."""
        y = F.leaky_relu(self.conv1(self.LayerNorm(x)), LEAKY_SLOPE)
        attended: Tensor = self.channel_attention(self.conv2(y))
        return x + attended


class ChannelMixing(nn.Module):
    """Two-layer MLP over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Dense_0 = nn.Linear(channels, channels)
        self.Dense_1 = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same."""
        # JAX's GELU is the tanh form. The exact form differs by up to 5e-4.
        mixed: Tensor = self.Dense_1(F.gelu(self.Dense_0(x), approximate="tanh"))
        return mixed


class ResidualDenseChannelAttention(nn.Module):
    """RDCAB: an MLP over channels and channel attention, around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.LayerNorm = LayerNorm(channels)
        self.channel_mixing = ChannelMixing(channels)
        self.channel_attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, C]` to the same."""
        attended: Tensor = self.channel_attention(self.channel_mixing(self.LayerNorm(x)))
        return x + attended


class SupervisedAttention(nn.Module):
    """SAM: makes a stage's image, and passes on features weighted by the image."""

    def __init__(self, channels: int, image_channels: int = 3) -> None:
        super().__init__()
        self.Conv_0 = Conv3x3(channels, channels)
        self.Conv_1 = Conv3x3(channels, image_channels)
        self.Conv_2 = Conv3x3(image_channels, channels)

    def forward(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[N, H, W, C]` and input image `[N, H, W, 3]` to (features, restored image)."""
        # Not clipped: the next stage was trained on values outside [0, 1] too.
        restored = self.Conv_1(x) + image
        return self.Conv_0(x) * torch.sigmoid(self.Conv_2(restored)) + x, restored
