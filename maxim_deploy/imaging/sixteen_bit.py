"""Pictures of 16 bits per channel, which Pillow reads as 8 without a word; and their PNG files.

Needs the extra `hdr` for the pixels; the metadata goes through Pillow, as for 8 bits.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maxim_deploy._optional import require
from maxim_deploy.imaging.metadata import orientation_and_exif
from maxim_deploy.imaging.orientation import orientation_from_exif
from maxim_deploy.imaging.picture import Picture


def picture_from_png(path: Path, image: Image.Image) -> Picture:
    """Read a PNG of 16 bits per channel that Pillow has opened, for its metadata.

    Raises:
        MissingDependencyError: the extra `hdr` is not installed.
    """
    pixels = require("imagecodecs", "hdr").png_decode(path.read_bytes())
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return picture_from_pixels(path, pixels, image.info.get("icc_profile"), image.getexif)


def picture_from_pixels(
    path: Path,
    pixels: NDArray[np.uint16],
    icc_profile: bytes | None,
    load_exif: Callable[[], Image.Exif],
) -> Picture:
    """From pixels as stored, [H, W, C]: grey, grey and alpha, RGB, or RGB and alpha."""
    orientation, exif = orientation_and_exif(path, load_exif)
    upright = orientation_from_exif(orientation).upright(pixels)
    is_grey, has_alpha = upright.shape[2] < 3, upright.shape[2] in (2, 4)
    colours = upright[..., [0, 0, 0]] if is_grey else upright[..., :3]
    alpha = np.ascontiguousarray(upright[..., -1]) if has_alpha else None
    return Picture(np.ascontiguousarray(colours), alpha, is_grey, icc_profile, exif)


def pixels_from_picture(picture: Picture) -> NDArray[np.uint16]:
    """The inverse of `picture_from_pixels` for an upright picture, whose pixels are uint16."""
    channels = [_luma(picture.rgb) if picture.is_grey else picture.rgb]
    if picture.alpha is not None:
        channels.append(picture.alpha[..., np.newaxis])
    return np.concatenate(channels, axis=-1)


def _luma(rgb: NDArray[Any]) -> NDArray[np.uint16]:
    """[H, W, 1] by Pillow's weights, which add up to 2^16: grey in is the same grey out."""
    red, green, blue = np.moveaxis(rgb.astype(np.uint32), -1, 0)
    luma = (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16
    grey: NDArray[np.uint16] = luma.astype(np.uint16)
    return grey[..., np.newaxis]


def png_from_pixels(pixels: NDArray[np.uint16], icc: bytes | None, exif: bytes | None) -> bytes:
    """The content of a PNG file.

    Raises:
        MissingDependencyError: the extra `hdr` is not installed.
    """
    encode = require("imagecodecs", "hdr").png_encode
    grey_or_more = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    png: bytes = encode(np.ascontiguousarray(grey_or_more), level=1)
    chunks = b""
    if icc:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    end_of_header = 8 + 25  # signature; IHDR with its length, name and checksum
    return png[:end_of_header] + chunks + png[end_of_header:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
