"""Orientation of pictures: EXIF of images, display matrices of videos."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from maxim_deploy.errors import VideoError
from maxim_deploy.imaging.picture import Pixels


@dataclass(frozen=True)
class Orientation:
    """Steps that make a stored frame upright: first exchange rows and columns, then mirror."""

    is_transposed: bool = False
    mirror_rows: bool = False
    mirror_columns: bool = False

    def upright(self, stored: Pixels) -> Pixels:
        """Turn a stored `[H, W, 3]` into an upright C-contiguous `[H, W, 3]` or `[W, H, 3]`."""
        turned = stored.swapaxes(0, 1) if self.is_transposed else stored
        if self.mirror_rows:
            turned = turned[::-1]
        if self.mirror_columns:
            turned = turned[:, ::-1]
        return np.ascontiguousarray(turned)


def orientation_from_exif(tag: int) -> Orientation:
    """From EXIF's number, 1 to 8. Any other number leaves the picture unchanged."""
    return Orientation(tag in (5, 6, 7, 8), tag in (3, 4, 7, 8), tag in (2, 3, 6, 7))


def orientation_from_matrix(matrix: bytes | None) -> Orientation:
    """From DISPLAYMATRIX, nine int32: a stored (x, y) is shown at (ax+cy, bx+dy).

    Raises:
        VideoError: it rotates by an angle that is not a multiple of 90 degrees.
    """
    if matrix is None:
        return Orientation()
    # Fixed point. For right angles only signs and zeros of the 2x2 part matter.
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if ((a or d) and (b or c)) or not (a or b) or not (c or d):
        raise VideoError(
            f"is shown through the matrix {[[a, c], [b, d]]}/65536 | expected a rotation by 0, "
            "90, 180 or 270 degrees, or a mirror image | convert it"
        )
    return Orientation(is_transposed=a == 0, mirror_rows=b + d < 0, mirror_columns=a + c < 0)
