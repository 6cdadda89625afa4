"""What turns and mirrors pictures: the EXIF of an image, the display matrix of a video."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from maxim_deploy.errors import VideoError
from maxim_deploy.imaging.picture import Pixels


@dataclass(frozen=True)
class Orientation:
    """What makes a stored frame upright: first exchange rows and columns, then mirror."""

    is_transposed: bool = False
    mirror_rows: bool = False
    mirror_columns: bool = False

    def upright(self, stored: Pixels) -> Pixels:
        """`[H, W, 3]` as stored to C-contiguous `[H, W, 3]` or `[W, H, 3]` as shown."""
        turned = stored.swapaxes(0, 1) if self.is_transposed else stored
        if self.mirror_rows:
            turned = turned[::-1]
        if self.mirror_columns:
            turned = turned[:, ::-1]
        return np.ascontiguousarray(turned)


def orientation_from_exif(tag: int) -> Orientation:
    """From EXIF's number, 1 to 8; any other leaves a picture as it is."""
    return Orientation(tag in (5, 6, 7, 8), tag in (3, 4, 7, 8), tag in (2, 3, 6, 7))


def orientation_from_matrix(matrix: bytes | None) -> Orientation:
    """From the side data DISPLAYMATRIX, nine int32: a stored (x, y) is shown at (ax+cy, bx+dy).

    Raises:
        VideoError: it turns by other than right angles.
    """
    if matrix is None:
        return Orientation()
    # Fixed point; only the signs and zeros of the 2x2 matter for right angles.
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if ((a or d) and (b or c)) or not (a or b) or not (c or d):
        raise VideoError(
            f"is shown through the matrix {[[a, c], [b, d]]}/65536 | expected a turn by 0, 90, 180 "
            "or 270 degrees, or a mirror image | convert it"
        )
    return Orientation(is_transposed=a == 0, mirror_rows=b + d < 0, mirror_columns=a + c < 0)
