"""The primitives of MAXIM whose defaults differ from PyTorch's, on `[N, H, W, C]` tensors.

Channel mixing (a "Dense" layer or a 1x1 convolution of the checkpoint) is `nn.Linear` on the last
axis; `nn.GELU(approximate="tanh")` and `nn.LeakyReLU(0.2)` are used as they are.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# With PyTorch's 1e-5 the image has an error of 5.7e-5: the smallest fault that tests must detect.
LAYER_NORM_EPS = 1e-6
LEAKY_SLOPE = 0.2


class LayerNorm(nn.LayerNorm):
    """LayerNorm over channels with MAXIM's epsilon, 1e-6 (PyTorch's default is 1e-5)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=LAYER_NORM_EPS)


class Conv3x3(nn.Conv2d):
    """3x3 convolution, stride 1, zero padding 1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, in]` to `[N, H, W, out]`."""
        return channels_last(super().forward(channels_first(x)))


class ConvDown(nn.Conv2d):
    """4x4 convolution, stride 2. "SAME" padding is one zero on each side for even sizes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        # "SAME" adds kernel minus stride in total: here 2, half of it on each side.
        super().__init__(in_channels, out_channels, kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, H, W, in]` to `[N, H/2, W/2, out]`."""
        return channels_last(super().forward(channels_first(x)))


class ConvUp(nn.ConvTranspose2d):
    """2x2 transposed convolution, stride 2: every input pixel becomes its own 2x2 cell."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """`[N, H, W, in]` to `[N, 2H, 2W, out]`."""
        return channels_last(super().forward(channels_first(x), output_size))


def channels_first(x: Tensor) -> Tensor:
    """`[N, H, W, C]` to `[N, C, H, W]`, as a view."""
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """`[N, C, H, W]` to `[N, H, W, C]`, as a view."""
    return x.permute(0, 2, 3, 1)


def resize(x: Tensor, from_level: int, to_level: int) -> Tensor:
    """Bilinear resize between two levels of the pyramid; level `i` has 1/2**i of the resolution.

    Half-pixel centres. Enlarging clamps at the edges. Shrinking is antialiased: the triangle filter
    widens with the factor (taps 1 3 3 1 for 1/2), and taps outside the image are dropped and the
    rest renormalised.
    """
    if from_level == to_level:
        return x
    height, width = x.shape[1], x.shape[2]
    shrink = to_level > from_level
    factor = 2 ** abs(to_level - from_level)
    size = (height // factor, width // factor) if shrink else (height * factor, width * factor)
    # PyTorch's triangle filter equals JAX's only with antialias.
    resized = F.interpolate(
        channels_first(x), size=size, mode="bilinear", align_corners=False, antialias=shrink
    )
    return channels_last(resized)


def nearest_shrink(x: Tensor, factor: int) -> Tensor:
    """Nearest resize by 1/factor (an even number): the pixel at `floor((i + 0.5) * factor)`."""
    # For an even factor that is i * factor + factor / 2: a slice rather than a gather.
    return x[:, factor // 2 :: factor, factor // 2 :: factor]
