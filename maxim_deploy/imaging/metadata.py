"""What a file says about its picture, as bytes that are copied and not understood."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Unit = Literal["inch", "centimetre", "metre", "aspect"]

_METRES = {"inch": Fraction(254, 10_000), "centimetre": Fraction(1, 100), "metre": Fraction(1)}


@dataclass(frozen=True)
class Resolution:
    """Pixels per unit of length; with the unit "aspect" only their ratio means something."""

    x: Fraction
    y: Fraction
    unit: Unit

    def transposed(self) -> Resolution:
        """Of a picture whose rows and columns are exchanged."""
        return Resolution(self.y, self.x, self.unit)

    def in_unit(self, *allowed: Unit) -> Resolution:
        """The same resolution in the unit that it has, if that is allowed, or else in the first."""
        if self.unit in allowed or self.unit == "aspect":
            return self
        scale = _METRES[allowed[0]] / _METRES[self.unit]
        return Resolution(self.x * scale, self.y * scale, allowed[0])


@dataclass(frozen=True)
class Metadata:
    """What stands beside the pixels, the ICC profile and the EXIF; `inventory` says what keeps it.

    Attributes:
        xmp: an XMP packet.
        xmp_extension: JPEG segments (without marker and length) that continue the packet.
        photoshop: Photoshop's image resources ("8BIM..."), of which IPTC is one.
        resolution: of the file itself; EXIF may hold another.
        comments: comments without a keyword, in no known encoding.
        text: PNG chunks of text, as (kind, data).
        colour: PNG chunks that describe colours, likewise.
        others: PNG chunks that may be copied without being understood, likewise.
    """

    xmp: bytes | None = None
    xmp_extension: tuple[bytes, ...] = ()
    photoshop: bytes | None = None
    resolution: Resolution | None = None
    comments: tuple[bytes, ...] = ()
    text: tuple[tuple[bytes, bytes], ...] = ()
    colour: tuple[tuple[bytes, bytes], ...] = ()
    others: tuple[tuple[bytes, bytes], ...] = ()
