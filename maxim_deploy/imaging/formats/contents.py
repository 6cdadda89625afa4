"""A file that has been opened: what is beside its pixels, which are still encoded."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.imaging.metadata import Metadata

THUMBNAIL = "the thumbnail, which shows the picture before"
"""What most photographs of cameras lose."""


@dataclass
class Decoded:
    """Pixels as stored, before they are turned upright.

    Attributes:
        rgb: uint8 or uint16 [H, W, 3].
        alpha: [H, W] of the same type, not premultiplied, or None.
        is_grey: there is one colour channel.
        icc_profile: what describes `rgb`.
    """

    rgb: NDArray[Any]
    alpha: NDArray[Any] | None
    is_grey: bool
    icc_profile: bytes | None


@dataclass
class Contents:
    """What an image file holds.

    Attributes:
        kind: name of the format.
        height: as stored, in pixels.
        width: likewise.
        decode: the pixels. It takes the ICC profile, and a function that is told of damage.
        bits: per channel.
        frames: pictures of full size, one after the other.
        icc_profile: as stored.
        exif: as stored, with or without a prefix.
        metadata: everything else that is kept.
        orientation: by a field of the format itself, 1 to 8; None if there is none.
        left_out: what is not kept, in words.
        damage: what is wrong with the file and does not matter to its pixels, in words.
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
    """The orientation in an XMP packet, if there is one, and the packet once it is applied."""
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[2]) if found else None, _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
