"""Read the contents of an open file of a known format."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from maxim_deploy.errors import ImageError
from maxim_deploy.imaging._reasons import reason
from maxim_deploy.imaging.formats import jpeg, others, png, tiff
from maxim_deploy.imaging.formats.contents import Contents
from maxim_deploy.imaging.formats.density import check_density
from maxim_deploy.imaging.inventory import WITH_16_BITS

_CONTENTS: dict[str, Callable[[BinaryIO], Contents]] = {
    "PNG": png.contents,
    "JPEG": jpeg.contents,
    "TIFF": tiff.contents,
    "WebP": others.webp,
    "AVIF": others.avif,
    "GIF": others.gif,
    "BMP": others.bmp,
    "PNM": others.pnm,
}


_NOT_COUNTED = ("TIFF", "GIF")
"""Formats without a count of frames. Only a second frame is searched for."""


def contents_of(kind: str, file: BinaryIO) -> Contents:
    """The contents of a file of a format.

    Raises:
        ImageError: it is damaged, has several frames, or more bits than can be kept.
    """
    try:
        found = _CONTENTS[kind](file)
    except (SyntaxError, ValueError) as error:
        raise ImageError(f"holds damaged {kind}: {reason(error)}") from error
    except ImportError as error:
        raise ImageError(
            f"is {kind}, which this build of Pillow does not read | convert it"
        ) from error
    check_density(found, file)
    if found.frames > 1:
        raise ImageError(
            f"has {found.frames} frames{' or more' * (kind in _NOT_COUNTED)}, and all but one "
            "would be lost | split it into files of one frame each"
        )
    if found.bits > 8 and not (found.bits == 16 and kind in WITH_16_BITS):
        raise ImageError(
            f"has {found.bits} bits per channel, and reading 8 of them would lose the rest | 16 "
            f"are read from {' and '.join(WITH_16_BITS)} | convert the file"
        )
    return found
