"""An opened file: its contents, with the pixels still encoded."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.imaging.metadata import Metadata

THUMBNAIL = "the thumbnail, which shows the picture before restoration"
"""A loss that most camera photographs have."""


@dataclass
class Decoded:
    """Pixels as stored, not yet upright.

    Attributes:
        rgb: uint8 or uint16 [H, W, 3].
        alpha: [H, W] of the same type, not premultiplied, or None.
        is_grey: whether there is one colour channel.
        icc_profile: profile that describes `rgb`.
    """

    rgb: NDArray[Any]
    alpha: NDArray[Any] | None
    is_grey: bool
    icc_profile: bytes | None


@dataclass
class Contents:
    """The contents of an image file.

    Attributes:
        kind: name of the format.
        height: height in pixels as stored.
        width: width in pixels as stored.
        decode: returns the pixels. It takes the ICC profile, and a function that it calls with
            damage.
        bits: bits per channel.
        frames: number of pictures of full size.
        icc_profile: as stored.
        exif: as stored, with or without a prefix.
        metadata: all other metadata that is kept.
        orientation: orientation stored in the format itself, 1 to 8; None without one.
        left_out: contents that are not kept, in words.
        damage: damage that does not affect the pixels, in words.
    """

    kind: str
    height: int
    width: int
    decode: Callable[[bytes | None, Callable[[str], None]], Decoded]
    bits: int = 8
    frames: int = 1
    icc_profile: bytes | None = None
    exif: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    orientation: int | None = None
    left_out: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>))([1-8])")


def upright_xmp(xmp: bytes) -> tuple[int | None, bytes]:
    """The orientation in an XMP packet, or None, and the packet after applying it."""
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[2]) if found else None, _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
