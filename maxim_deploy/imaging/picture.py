"""A picture in memory, with what its file says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.imaging.metadata import Metadata

Pixels = NDArray[Any]
"""uint8 or uint16."""


@dataclass(frozen=True)
class Picture:
    """One image as read from a file, upright.

    Attributes:
        rgb: uint8 or uint16 [H, W, 3], C-contiguous, sRGB order; grey pictures have three equal
            channels.
        alpha: [H, W] of the same type, not premultiplied, or None if the file has no transparency.
        is_grey: the file holds one colour channel, and so will what is written like it.
        icc_profile: the embedded profile that describes `rgb` (or its one grey channel).
        exif: the EXIF block, starting with `Exif`, without orientation, thumbnail and layout tags.
        metadata: what else the file carries, such as XMP, resolution and comments.
        left_out: what the file carries and this picture does not, in words.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    is_grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    left_out: tuple[str, ...] = ()
