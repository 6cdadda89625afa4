"""Metadata of a picture as bytes, which are copied without interpretation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Unit = Literal["inch", "centimetre", "metre", "aspect"]

_METRES = {"inch": Fraction(254, 10_000), "centimetre": Fraction(1, 100), "metre": Fraction(1)}


@dataclass(frozen=True)
class Resolution:
    """Pixels per unit of length. With the unit "aspect" only the ratio has a meaning."""

    x: Fraction
    y: Fraction
    unit: Unit

    def transposed(self) -> Resolution:
        """The resolution after exchanging rows and columns."""
        return Resolution(self.y, self.x, self.unit)

    def in_unit(self, *allowed: Unit) -> Resolution:
        """The same resolution in its own unit if allowed, else in the first allowed unit."""
        if self.unit in allowed or self.unit == "aspect":
            return self
        scale = _METRES[allowed[0]] / _METRES[self.unit]
        return Resolution(self.x * scale, self.y * scale, allowed[0])


@dataclass(frozen=True)
class Metadata:
    """Metadata besides ICC profile and EXIF. `inventory` says what formats keep it.

    Attributes:
        xmp: an XMP packet.
        xmp_extension: JPEG segments (without marker and length) that continue the packet.
        photoshop: Photoshop's image resources ("8BIM..."), including IPTC.
        resolution: resolution in the file itself. EXIF may hold another.
        comments: comments without a keyword, in no known encoding.
        text: PNG chunks of text, as (kind, data).
        colour: PNG chunks that describe colours, as (kind, data).
        others: PNG chunks that are safe to copy, as (kind, data).
    """

    xmp: bytes | None = None
    xmp_extension: tuple[bytes, ...] = ()
    photoshop: bytes | None = None
    resolution: Resolution | None = None
    comments: tuple[bytes, ...] = ()
    text: tuple[tuple[bytes, bytes], ...] = ()
    colour: tuple[tuple[bytes, bytes], ...] = ()
    others: tuple[tuple[bytes, bytes], ...] = ()
