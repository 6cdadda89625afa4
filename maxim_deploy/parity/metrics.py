"""Metrics between two images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


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
    a, b = np.asarray(image, np.float64), np.asarray(target, np.float64)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"cannot compare images of shapes {a.shape} and {b.shape}")
    mean_square = float(np.mean(np.square(a - b)))
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)
