"""Hidden pixels: what the network sees in their place, and how they are restored.

Programs store arbitrary colours under full transparency, usually black. The network mixes them into
visible pixels: a noisy cut-out reaches 30.6 dB with the rest of its photograph around it, and 27.8
dB with black. With the visible pixels mirrored outwards it reaches 30.6 dB too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.imaging.picture import Pixels

_FAR = 2**30
"""A distance beyond any picture. Twice this distance still fits 32 bits."""

_STRIP = 256
"""Rows or columns at a time: intermediate arrays are ten times the size of a strip."""


def filled(rgb: Pixels, alpha: Pixels | None) -> Pixels:
    """The picture with hidden pixels replaced by mirror images of visible ones.

    Args:
        rgb: [H, W, 3] of any type; not modified.
        alpha: [H, W], 0 where a pixel is hidden; or None.

    Returns:
        [H, W, 3]; `rgb` itself if no pixel or every pixel is hidden.
    """
    visible = np.ones((1, 1), np.bool_) if alpha is None else alpha != 0
    if visible.all() or not visible.any():
        return rgb
    out = rgb.copy()
    # The first pass fills each row that has a visible pixel. A second pass, if needed, then finds a
    # pixel in every column.
    while not visible.all():
        visible = _fill_along_axes(out, visible)
    return out


def put_back_hidden(restored: Pixels, rgb: Pixels, alpha: Pixels | None) -> None:
    """Give the hidden pixels of a result their original colours.

    Args:
        restored: [H, W, 3]; written to.
        rgb: [H, W, 3] of the same type.
        alpha: [H, W], 0 where a pixel is hidden; or None.
    """
    if alpha is not None and not alpha.all():
        np.copyto(restored, rgb, where=alpha[..., np.newaxis] == 0)


def _fill_along_axes(out: Pixels, visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill pixels that have a visible pixel in their row, in place.

    Returns which pixels are filled.
    """
    height, width = visible.shape
    kind = np.int32 if visible.size < 2**31 else np.int64
    distance, source = np.empty(visible.shape, np.int32), np.empty(visible.shape, kind)
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP)
        column, distance[rows] = _mirrored(visible[rows])
        source[rows] = column + width * np.arange(height, dtype=kind)[rows, np.newaxis]
    for left in range(0, width, _STRIP):
        columns = slice(left, left + _STRIP)
        row, far = (found.T for found in _mirrored(np.ascontiguousarray(visible[:, columns].T)))
        of_column = row.astype(kind) * width + np.arange(width, dtype=kind)[columns]
        np.copyto(source[:, columns], of_column, where=far < distance[:, columns])
        np.minimum(far, distance[:, columns], out=distance[:, columns])
    reached = distance < _FAR // 2
    pixels = out.reshape(-1, out.shape[2])
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP)
        new = reached[rows] & ~visible[rows]
        out[rows][new] = pixels[source[rows][new]]  # sources are visible, so none is overwritten
    return reached


def _mirrored(visible: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The column of the mirror image of each pixel of [rows, N], and the distance of the mirror.

    The mirror is the nearest end of a run of visible pixels in the row. Beyond the run's length the
    image goes back and forth. In a row without visible pixels the distance is about `_FAR`.
    """
    count = visible.shape[1]
    index = np.arange(count, dtype=np.int32)
    before = _latest(np.where(visible, index, -_FAR))
    after = _next(np.where(visible, index, _FAR))
    is_before = index - before <= after - index
    mirror = np.where(is_before, before, after)
    distance = np.abs(index - mirror)
    mirror = np.clip(mirror, 0, count - 1)
    runs = _next(np.where(visible, count, index)) - _latest(np.where(visible, -1, index)) - 1
    run = np.maximum(np.take_along_axis(runs, mirror, axis=1), 1)
    step = (distance - 1) % (2 * run)
    step = np.minimum(step, 2 * run - 1 - step)
    return np.where(is_before, mirror - step, mirror + step), distance


def _latest(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """The largest value so far, along each row."""
    return np.maximum.accumulate(values, axis=1, dtype=np.int32)


def _next(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """The smallest value from here on, along each row."""
    return np.minimum.accumulate(values[:, ::-1], axis=1, dtype=np.int32)[:, ::-1]
