"""Write PNG: chunks go between the header and the pixels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.imaging.formats import exif
from maxim_deploy.imaging.formats.png import RAW_PROFILE, SIGNATURE, XMP
from maxim_deploy.imaging.metadata import Resolution
from maxim_deploy.imaging.picture import Picture

_HEADER_SIZE = len(SIGNATURE) + 25
"""Bytes of the signature and of IHDR with its length, name and checksum."""


def sixteen_bit_png(pixels: NDArray[np.uint16]) -> memoryview:
    """A PNG file of 16 bits per channel without metadata, from [H, W, channels].

    Raises:
        MissingDependencyError: the extra `hdr` is not installed.
    """
    grey_or_more = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    encode = require("imagecodecs", "hdr").png_encode
    return memoryview(encode(np.ascontiguousarray(grey_or_more), level=1))


def with_metadata(encoded: memoryview, picture: Picture) -> list[bytes | memoryview]:
    """Add metadata to a file that has none."""
    metadata = picture.metadata
    # Chunks about colours precede the pixels. Other chunks may stand anywhere.
    chunks = list(metadata.colour)
    if picture.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc_profile)))
    if resolution := metadata.resolution or exif.resolution_from_exif(picture.exif):
        chunks.append((b"pHYs", _density(resolution)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif.removeprefix(exif.PREFIX)))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP + bytes(5) + metadata.xmp))
    if metadata.photoshop:
        chunks.append((b"zTXt", _raw_profile(b"iptc", metadata.photoshop)))
    chunks += [*map(_comment, metadata.comments), *metadata.text, *metadata.others]
    written = b"".join(chunk(kind, data) for kind, data in chunks)
    return [encoded[:_HEADER_SIZE], written, encoded[_HEADER_SIZE:]]


def _density(resolution: Resolution) -> bytes:
    """A pHYs chunk: integers of 32 bits, per metre."""
    exact = resolution.in_unit("metre")
    x, y = (min(max(round(value), 1), 2**31 - 1) for value in (exact.x, exact.y))
    return struct.pack(">IIB", x, y, exact.unit == "metre")


def _comment(comment: bytes) -> tuple[bytes, bytes]:
    """A chunk of text: UTF-8 if the comment is valid UTF-8, else its bytes as Latin-1."""
    comment = comment.replace(b"\0", b"")  # text must not contain a null byte
    try:
        is_ascii = comment.decode("utf-8").isascii()
    except UnicodeDecodeError:
        is_ascii = True
    return (
        (b"tEXt", b"Comment\0" + comment)
        if is_ascii
        else (b"iTXt", b"Comment" + bytes(5) + comment)
    )


def _raw_profile(name: bytes, data: bytes) -> bytes:
    digits = data.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\n%s\n%8d\n%s\n" % (name, len(data), lines)
    return RAW_PROFILE + name + bytes(2) + zlib.compress(text)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
