"""How many pixels are read: as many as the memory takes, and no more than the caller allows."""

from __future__ import annotations

from maxim_deploy.errors import ImageError, UsageError
from maxim_deploy.imaging.formats.contents import Contents
from maxim_deploy.machine.memory import available_bytes

_BYTES = 7
"""Of a pixel of 8 bits per channel: 4 while it is decoded, 3 of the result of the network."""

_OTHER_BYTES = {"WebP": 20, "AVIF": 20, "GIF": 12}
"""Of formats whose libraries keep copies while they decode."""


def check_max_pixels(max_pixels: int | None) -> None:
    """Refuse a limit that no picture keeps.

    Raises:
        UsageError: it is below 1.
    """
    if max_pixels is not None and max_pixels < 1:
        raise UsageError(f"max_pixels is {max_pixels} | expected at least 1, or None")


def bytes_to_restore(height: int, width: int, bits: int = 8, kind: str = "") -> int:
    """Memory that a picture takes from its file to its result, without that of the network."""
    return height * width * _OTHER_BYTES.get(kind, _BYTES) * max(1, bits // 8)


def check_pixels(found: Contents, max_pixels: int | None) -> None:
    """Refuse a picture before memory for its pixels is taken.

    Args:
        found: what the file holds.
        max_pixels: the caller's limit; None for none.

    Raises:
        ImageError: it has more pixels than the limit, or than fit the memory that is available.
    """
    pixels = found.height * found.width
    size = f"{found.height}x{found.width}, {pixels:,} pixels"
    if max_pixels is not None and pixels > max_pixels:
        raise ImageError(f"{size}, and the limit is {max_pixels:,} | raise the limit, max_pixels")
    needed = bytes_to_restore(found.height, found.width, found.bits, found.kind)
    if needed > (available := available_bytes()):
        raise ImageError(
            f"{size}, take {needed / 2**30:,.1f} GiB to read and restore, and "
            f"{available / 2**30:,.1f} GiB are available | use a smaller image or more memory"
        )
