"""Convert images to and from the network's padded planes, in few passes over memory.

Results equal those of `to_unit`, `Padding` and `from_unit` in sequence, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.imaging.padding import Padding
from maxim_deploy.imaging.pixels import WHITE, Rounding, from_unit

_ROWS = 32
"""Rows that are converted at a time: intermediate values then stay in the cache."""


def padded_planes(image: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Write an image into padded planes.

    Args:
        image: `[H, W, 3]` of uint8, uint16, or float32 in [0, 1]; any strides.
        out: `[3, padded H, padded W]`, overwritten with values in [0, 1].
    """
    padding = Padding(*image.shape[:2])
    rows, columns = padding.crop
    inside = out[:, rows, columns]
    if image.dtype == np.float32:
        inside[...] = image.transpose(2, 0, 1)
    else:
        white = np.float32(WHITE[image.dtype])
        np.divide(image.transpose(2, 0, 1), white, out=inside, dtype=np.float32)
    # The borders are copied from converted pixels: first columns, then whole rows, because a corner
    # reflects both ways.
    sources = padding.sources
    for here in _outside(columns, out.shape[2]):
        out[:, rows, here] = inside[:, :, sources[1][here]]
    for here in _outside(rows, out.shape[1]):
        out[:, here] = out[:, rows][:, sources[0][here]]


def image_from_planes(
    planes: NDArray[np.float32], dtype: np.dtype[Any], rounding: Rounding = "nearest"
) -> NDArray[Any]:
    """A new image `[H, W, 3]` from planes `[3, H, W]` of any strides, as `from_unit` does."""
    image = np.empty((*planes.shape[1:], 3), dtype)
    # In strips of rows: float32 levels of the whole image would be read from memory three times.
    for first in range(0, planes.shape[1], _ROWS):
        levels = from_unit(planes[:, first : first + _ROWS], dtype, rounding)
        for channel, plane in enumerate(levels):
            image[first : first + _ROWS, :, channel] = plane
    return image


def _outside(inside: slice, length: int) -> list[slice]:
    """The ranges before and after a slice, without empty ones."""
    ends = [slice(0, inside.start), slice(inside.stop, length)]
    return [end for end in ends if end.start < end.stop]
