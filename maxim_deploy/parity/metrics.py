"""Metrics between two images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW = 11
"""Side of SSIM's Gaussian window in pixels, of Wang et al. 2004."""

_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03

_LUMA = np.array([65.481, 128.553, 24.966]) / 255
"""What MATLAB's `rgb2ycbcr` weighs red, green and blue with, from [0, 255] to Y in [16, 235]: the
luma of ITU-R BT.601, `0.299 R + 0.587 G + 0.114 B`, times 219 / 255."""


def psnr(image: ArrayLike, target: ArrayLike, *, peak: float) -> float:
    """Peak signal-to-noise ratio in dB: `10 log10(peak² / mean((image - target)²))`, in float64.

    Args:
        image: any shape and type.
        target: of the same shape.
        peak: the largest value a pixel can have: 255 for uint8, 1 for images in [0, 1].

    Returns:
        dB; infinity for equal images, NaN where a value is NaN.

    Raises:
        ValueError: the shapes differ, or there is nothing to compare.
    """
    a, b = _pair(image, target)
    return psnr_of(float(np.mean(np.square(a - b))), peak=peak)


def psnr_of(mean_square: float, *, peak: float) -> float:
    """PSNR in dB of a mean squared error; infinity for 0."""
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)


def ssim(image: ArrayLike, target: ArrayLike, *, peak: float) -> float:
    """Structural similarity after Wang et al. 2004, in float64.

    A Gaussian window of 11x11 pixels and sigma 1.5, population covariances, K1 = 0.01, K2 = 0.03.
    Averaged over the positions at which the window lies inside, and over the channels.

    Args:
        image: `[H, W]` or `[H, W, C]` of any type; both sides at least 11.
        target: of the same shape.
        peak: the range of the values, as for `psnr`.

    Returns:
        1 for equal images, NaN where a value is NaN.

    Raises:
        ValueError: the shapes differ, or a side is shorter than the window.
    """
    a, b = _pair(image, target)
    if a.ndim not in (2, 3) or min(a.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM takes [H, W] or [H, W, C] with sides from {WINDOW}, not {a.shape}")
    mean_a, mean_b = _smooth(a), _smooth(b)
    # The difference of two near numbers where a window is flat: in float64 what is left of
    # 255**2 is 1e-11, far below `c2`; in float32 it would be a hundredth.
    variance_a = _smooth(a * a) - mean_a**2
    variance_b = _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similar /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(similar.mean())


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The Y channel of MATLAB's `rgb2ycbcr` on 8 bits: `[H, W, 3]` to `[H, W]` in [16, 235].

    Rounded to 8 bits, halves up, as MATLAB does for an image of that type.
    """
    # Not `np.rint`, which takes halves to the even neighbour; MATLAB takes them up.
    return np.floor(rgb @ _LUMA + 16.5).astype(np.uint8)


def _pair(image: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Differences of uint8 wrap around, and a sum of a million float32 squares loses digits.
    a, b = np.asarray(image, np.float64), np.asarray(target, np.float64)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"cannot compare images of shapes {a.shape} and {b.shape}")
    return a, b


def _smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windowed means at the positions where the window lies inside, rows and columns in turn."""
    taps = np.exp(-0.5 * np.square((np.arange(WINDOW) - WINDOW // 2) / _SIGMA))
    taps /= taps.sum()
    height, width = (size - WINDOW + 1 for size in x.shape[:2])
    # The window is a product of two rows: 22 shifted sums in place of 121.
    rows = sum(tap * x[k : k + height] for k, tap in enumerate(taps))
    columns: NDArray[np.float64] = sum(tap * rows[:, k : k + width] for k, tap in enumerate(taps))
    return columns
