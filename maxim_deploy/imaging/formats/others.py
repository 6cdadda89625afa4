"""The formats whose metadata Pillow returns as bytes: WebP, AVIF, GIF, BMP, PNM."""

from __future__ import annotations

import importlib.util
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import BinaryIO

from PIL import BmpImagePlugin, GifImagePlugin, ImageFile, PpmImagePlugin, WebPImagePlugin

from maxim_deploy.imaging.formats.contents import Contents
from maxim_deploy.imaging.formats.pillow import decoded, opened
from maxim_deploy.imaging.metadata import Metadata, Resolution

_Plugin = Callable[..., ImageFile.ImageFile]

_HEAD = 64 * 1024
"""Bytes at the beginning of a file that contain its headers."""


def webp(file: BinaryIO) -> Contents:
    """The contents of a WebP file."""
    return _from_pillow("WebP", WebPImagePlugin.WebPImageFile, file)


def avif(file: BinaryIO) -> Contents:
    """The contents of an AVIF file.

    Raises:
        ImportError: this build of Pillow does not read AVIF.
    """
    if importlib.util.find_spec("PIL._avif") is None:  # from Pillow 11.3 on, if built with libavif
        raise ImportError
    from PIL import AvifImagePlugin

    found = _from_pillow("AVIF", AvifImagePlugin.AvifImageFile, file)
    file.seek(0)
    head = file.read(_HEAD)
    # av1C: version, profile and level, then tier, high bit depth, 12 bits
    if (at := head.find(b"av1C")) >= 0 and head[at + 6] & 0x40:
        found.bits = 12 if head[at + 6] & 0x20 else 10
    if (at := head.find(b"colrnclx")) >= 0:
        primaries, transfer = struct.unpack(">HH", head[at + 8 : at + 12])
        if (primaries, transfer) not in ((1, 13), (2, 2), (1, 2)):
            # RGB of full range, as in PNG.
            colour = (b"cICP", bytes([primaries, transfer, 0, 1]))
            found.metadata = replace(found.metadata, colour=(colour,))
    if b"tmap" in head:
        found.left_out.append("the gain map")
    return found


def gif(file: BinaryIO) -> Contents:
    """The contents of a GIF file."""
    found = _from_pillow("GIF", GifImagePlugin.GifImageFile, file)
    file.seek(0)
    data = file.read()
    if b"\x21\xff\x0bICCRGBG1012" in data:
        found.left_out.append("the ICC profile")
    # The packet is stored without blocks, and a list of decreasing lengths ends it.
    if xmp := re.search(rb"\x21\xff\x0bXMP DataXMP(.*?)\x01\xff\xfe", data, re.DOTALL):
        found.metadata = replace(found.metadata, xmp=xmp[1])
    return found


def bmp(file: BinaryIO) -> Contents:
    """The contents of a BMP file."""
    found = _from_pillow("BMP", BmpImagePlugin.BmpImageFile, file)
    file.seek(0)
    head = file.read(138)
    (size,) = struct.unpack("<I", head[14:18])
    if size >= 40:
        x, y = struct.unpack("<ii", head[38:46])
        if x > 0 and y > 0:
            resolution = Resolution(Fraction(x), Fraction(y), "metre")
            found.metadata = Metadata(resolution=resolution)
    if size >= 124 and head[70:74] == b"DEBM":  # "MBED", an embedded profile
        offset, length = struct.unpack("<II", head[126:134])
        file.seek(14 + offset)
        found.icc_profile = file.read(length) or None
    return found


def pnm(file: BinaryIO) -> Contents:
    """The contents of a PBM, PGM, PPM or PFM file."""
    found = _from_pillow("PNM", PpmImagePlugin.PpmImageFile, file)
    file.seek(0)
    head = re.match(rb"P.(?:\s|#[^\n]*\n|\d)*", file.read(_HEAD))
    comments = re.findall(rb"#([^\n]*)\n", head[0]) if head else []
    found.metadata = Metadata(comments=tuple(comments))
    return found


def _from_pillow(kind: str, plugin: _Plugin, file: BinaryIO) -> Contents:
    file.seek(0)
    image = opened(plugin, file)
    info = image.info
    comment = info.get("comment")
    return Contents(
        kind,
        image.height,
        image.width,
        partial(decoded, image),
        frames=_frames(image),
        bits=_bits(image),
        icc_profile=info.get("icc_profile"),
        exif=info.get("exif"),
        metadata=Metadata(
            xmp=info.get("xmp"),
            comments=(comment if isinstance(comment, bytes) else comment.encode(),)
            if comment
            else (),
        ),
    )


def _frames(image: ImageFile.ImageFile) -> int:
    """Number of frames.

    For GIF it is 1 or 2, because Pillow would decode all frames to count them.
    """
    if image.format == "GIF":
        return 1 + bool(getattr(image, "is_animated", False))
    return int(getattr(image, "n_frames", 1))


def _bits(image: ImageFile.ImageFile) -> int:
    """Bits per channel of PNM. Other formats have 8 at most, or state it elsewhere."""
    if image.format != "PPM":
        return 8
    # The decoder's arguments are (raw mode, largest value) if that is not 255.
    arguments = image.tile[0][3]
    has_more = isinstance(arguments, tuple) and arguments[1] > 255
    return {"F": 32, "I": 16}.get(image.mode, 16 if has_more else 8)
