"""A picture in memory with its metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.imaging.metadata import Metadata

Pixels = NDArray[Any]
"""uint8 or uint16."""


@dataclass(frozen=True)
class Picture:
    """One upright image read from a file.

    Attributes:
        rgb: uint8 or uint16 [H, W, 3], C-contiguous, sRGB order; grey pictures have three equal
            channels.
        alpha: [H, W] of the same type, not premultiplied, or None if the file has no transparency.
        is_grey: whether the file holds one colour channel. Files written like it will too.
        icc_profile: the embedded profile that describes `rgb` (or its one grey channel).
        exif: the EXIF block, starting with `Exif`, without orientation, thumbnail and layout tags.
        metadata: further contents of the file, such as XMP, resolution and comments.
        left_out: contents of the file that this picture lacks, in words.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    is_grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    left_out: tuple[str, ...] = ()
