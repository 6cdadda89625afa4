"""Limits on pixels: the available memory and the caller's maximum."""

from __future__ import annotations

from maxim_deploy.errors import ImageError, UsageError
from maxim_deploy.imaging.formats.contents import Contents
from maxim_deploy.machine.memory import available_bytes

_BYTES = 7
"""Bytes for a pixel of 8 bits per channel: 4 while decoding, 3 for the network's result."""

_OTHER_BYTES = {"WebP": 20, "AVIF": 20, "GIF": 12}
"""Formats whose libraries keep copies while decoding."""


def check_max_pixels(max_pixels: int | None) -> None:
    """Raise an error for a limit below 1.

    Raises:
        UsageError: the limit is below 1.
    """
    if max_pixels is not None and max_pixels < 1:
        raise UsageError(f"max_pixels is {max_pixels} | expected at least 1, or None")


def bytes_to_restore(height: int, width: int, bits: int = 8, kind: str = "") -> int:
    """Memory for a picture from file to result, without the network."""
    return height * width * _OTHER_BYTES.get(kind, _BYTES) * max(1, bits // 8)


def check_pixels(found: Contents, max_pixels: int | None) -> None:
    """Raise an error for a picture that is too large, before memory for its pixels is taken.

    Args:
        found: the contents of the file.
        max_pixels: the caller's limit; None for none.

    Raises:
        ImageError: it has more pixels than the limit, or than fit the available memory.
    """
    pixels = found.height * found.width
    size = f"{found.height}x{found.width}, {pixels:,} pixels"
    if max_pixels is not None and pixels > max_pixels:
        raise ImageError(f"{size}, but the limit is {max_pixels:,} | raise max_pixels")
    needed = bytes_to_restore(found.height, found.width, found.bits, found.kind)
    if needed > (available := available_bytes()):
        raise ImageError(
            f"{size}, take {needed / 2**30:,.1f} GiB to read and restore, but "
            f"{available / 2**30:,.1f} GiB are available | use a smaller image or more memory"
        )
