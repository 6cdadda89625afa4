"""Bounds on pixels per byte of a file. They expose damaged headers.

A decoder takes memory for all pixels that a header claims before it notices that they are missing.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from maxim_deploy.errors import ImageError
from maxim_deploy.imaging.formats.contents import Contents

_SMALL = 2**20
"""Pictures of up to this many pixels are not checked."""

_PIXELS_PER_BYTE = {
    "JPEG": 1000, "WebP": 50_000, "AVIF": 50_000, "PNG": 10_000, "GIF": 3000, "BMP": 300,
    "PNM": 8, "TIFF": 5000,
}  # fmt: skip
"""Most pixels per byte by format. Black pictures have 63 (progressive 170), 25,536 (lossless),
7861, 343 (8 bits) and 1329.

BMP has runs of 255 pixels in two bytes. PNM has 8 bits in a byte, or text of two bytes each."""

_LOSSY_WEBP, _PIXELS_PER_LOSSY_BYTE = b"VP8 ", 2000
"""Most pixels per byte of the rest. A black picture has 562."""


def check_density(found: Contents, file: BinaryIO) -> None:
    """Raise an error if a file is far too short for its picture.

    Raises:
        ImageError: the file is too short; the message has both numbers.
    """
    size, pixels = file.seek(0, io.SEEK_END), found.height * found.width
    # Fax coding of black and white can store a line in one bit.
    if pixels <= _SMALL or (found.kind == "TIFF" and found.bits == 1):
        return
    most = _PIXELS_PER_BYTE[found.kind]
    file.seek(12)
    if found.kind == "WebP" and file.read(4) == _LOSSY_WEBP:
        most = _PIXELS_PER_LOSSY_BYTE
    if pixels > most * size:
        raise ImageError(
            f"is damaged: its header says {found.height}x{found.width} pixels, but the file has "
            f"{size:,} bytes | copy or export it again"
        )
