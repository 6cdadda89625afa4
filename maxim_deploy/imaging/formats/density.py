"""How many pixels a byte of a file can hold: a damaged header may claim any number of them.

Decoders take memory for the pixels that a header claims before they notice that they are missing.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from maxim_deploy.errors import ImageError
from maxim_deploy.imaging.formats.contents import Contents

_SMALL = 2**20
"""Pixels of a picture whose memory never matters."""

_PIXELS_PER_BYTE = {
    "JPEG": 1000, "WebP": 50_000, "AVIF": 50_000, "PNG": 10_000, "GIF": 3000, "BMP": 300,
    "PNM": 8, "TIFF": 5000,
}  # fmt: skip
"""At most. A black picture has 63 (170 progressive), 25,536 (lossless), 7861, 343 (8 bits), 1329.

BMP has runs of 255 pixels in two bytes. PNM has 8 bits in a byte, or text of two bytes each.
"""

_LOSSY_WEBP, _PIXELS_PER_LOSSY_BYTE = b"VP8 ", 2000
"""A black picture has 562."""


def check_density(found: Contents, file: BinaryIO) -> None:
    """Refuse a picture that its file is far too short for.

    Raises:
        ImageError: it is; the message has both numbers.
    """
    size, pixels = file.seek(0, io.SEEK_END), found.height * found.width
    # Fax coding of black and white has lines of a bit.
    if pixels <= _SMALL or (found.kind == "TIFF" and found.bits == 1):
        return
    most = _PIXELS_PER_BYTE[found.kind]
    file.seek(12)
    if found.kind == "WebP" and file.read(4) == _LOSSY_WEBP:
        most = _PIXELS_PER_LOSSY_BYTE
    if pixels > most * size:
        raise ImageError(
            f"is damaged: its header says {found.height}x{found.width} pixels, and the file has "
            f"{size:,} bytes | copy or export it again"
        )
