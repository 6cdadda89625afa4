"""Convert pixel types (integers of 8 and 16 bits, float32) to and from the network's range."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import UsageError

Rounding = Literal["nearest", "truncate"]
"""Rounding of a value between two levels. The published scripts truncate, which is half a level
darker on average."""

WHITE: dict[np.dtype[Any], int] = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
"""The level of each integer type that represents 1.0."""


def check_image(image: NDArray[Any]) -> None:
    """Raise an error unless this is a finite RGB image `[H, W, 3]` of uint8, uint16 or float32.

    Raises:
        UsageError: wrong type, number of axes, channel count or size, or a NaN or infinite value.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(f"an image must be a NumPy array, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"an image must have the shape (height, width, 3), RGB, not {image.shape}")
    if image.dtype not in WHITE and image.dtype != np.float32:
        raise UsageError(f"an image must be uint8, uint16 or float32, not {image.dtype}")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise UsageError("the image has NaN or infinite values")


def check_rounding(rounding: str) -> None:
    """Raise an error for an unknown rounding.

    Raises:
        UsageError: it is neither "nearest" nor "truncate".
    """
    if rounding not in get_args(Rounding):
        raise UsageError(f"rounding must be 'nearest' or 'truncate', not {rounding!r}")


def to_unit(image: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels as float32: integers are scaled to [0, 1], float32 is unchanged."""
    if image.dtype == np.float32:
        return image
    # Divided, as in the published evaluation. A product with the reciprocal differs in the last bit
    # for some levels.
    return image.astype(np.float32) / np.float32(WHITE[image.dtype])


def from_unit(
    values: NDArray[np.float32], dtype: np.dtype[Any], rounding: Rounding = "nearest"
) -> NDArray[Any]:
    """The inverse of `to_unit`: integers are clipped to [0, 1] and rounded, float32 is unchanged.

    Args:
        values: float32 of any shape; not modified.
        dtype: uint8, uint16 or float32.
        rounding: "nearest" (halves to even) or "truncate", for integers.
    """
    if dtype == np.float32:
        return values
    # Clipped first: a cast of a value outside the integer's range is undefined in C, and wraps on
    # most machines. The clip also makes the one copy, which the next line may modify.
    levels = np.clip(values, 0.0, 1.0) * np.float32(WHITE[dtype])
    if rounding == "nearest":
        np.rint(levels, out=levels)
    return levels.astype(dtype)  # the cast truncates


def fitted(photo: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """The centre of a photograph `[h, w, 3]`, mirrored at its edges if it is too small.

    Args:
        photo: photograph of any type.
        height: of the result.
        width: of the result.

    Returns:
        `[height, width, 3]` of the same type.
    """
    missing = [
        max(0, size - have) for size, have in zip((height, width), photo.shape, strict=False)
    ]
    pads = [(extra // 2, extra - extra // 2) for extra in missing]
    # Symmetric, which repeats the edge pixel: unlike reflection it works for a side of one pixel.
    grown = np.pad(photo, [*pads, (0, 0)], mode="symmetric")
    top, left = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return grown[top : top + height, left : left + width]


def to_batch(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture `[H, W, 3]` in the network's layout `[1, 3, H, W]`, copied."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis])
