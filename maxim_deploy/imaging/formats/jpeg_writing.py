"""Write JPEG: segments go between the JFIF segment and the tables."""

from __future__ import annotations

import struct
from dataclasses import replace

from maxim_deploy.imaging.formats import exif
from maxim_deploy.imaging.formats.jpeg import COMMENT, ICC, PHOTOSHOP, UNITS, XMP
from maxim_deploy.imaging.metadata import Resolution
from maxim_deploy.imaging.picture import Picture

_RESOURCES = "IPTC and Photoshop resources"
_LONGEST = 65533
"""Most bytes of a segment. Its length field has 16 bits and includes itself."""
_MOST_ICC = 255 * (_LONGEST - len(ICC) - 2)


def too_long(picture: Picture) -> dict[str, str]:
    """Contents of a picture that do not fit into segments, with the reason."""
    metadata = picture.metadata
    sizes = {
        "EXIF": (picture.exif, _LONGEST),
        "XMP": (metadata.xmp, _LONGEST - len(XMP)),
        "ICC profile": (picture.icc_profile, _MOST_ICC),
        _RESOURCES: (metadata.photoshop, 16 * 2**20),
        "comments": (max(metadata.comments, key=len, default=b""), _LONGEST),
    }
    return {
        thing: f"{len(data):,} bytes, but JPEG holds {most:,}"
        for thing, (data, most) in sizes.items()
        if data and len(data) > most
    }


def _fitting(picture: Picture) -> Picture:
    """The picture without contents that are too long."""
    gone = too_long(picture)
    metadata = replace(
        picture.metadata,
        xmp=None if "XMP" in gone else picture.metadata.xmp,
        photoshop=None if _RESOURCES in gone else picture.metadata.photoshop,
        comments=tuple(text for text in picture.metadata.comments if len(text) <= _LONGEST),
    )
    return replace(
        picture,
        exif=None if "EXIF" in gone else picture.exif,
        icc_profile=None if "ICC profile" in gone else picture.icc_profile,
        metadata=metadata,
    )


def with_metadata(encoded: memoryview, picture: Picture) -> list[bytes | memoryview]:
    """Add metadata to a file that begins with a JFIF segment and has none."""
    header = bytearray(encoded[:20])  # start of image, APP0
    picture = _fitting(picture)
    metadata = picture.metadata
    resolution = metadata.resolution or exif.resolution_from_exif(picture.exif)
    if resolution:
        header[13:18] = _density(resolution)
    parts: list[bytes] = []
    if picture.exif:
        parts.append(_segment(0xE1, picture.exif))
    if metadata.xmp:
        parts.append(_segment(0xE1, XMP + metadata.xmp))
        parts.extend(_segment(0xE1, data) for data in metadata.xmp_extension)
    if picture.icc_profile:
        pieces = _pieces(picture.icc_profile, _LONGEST - len(ICC) - 2)
        for number, piece in enumerate(pieces, 1):
            parts.append(_segment(0xE2, ICC + bytes([number, len(pieces)]) + piece))
    if metadata.photoshop:
        pieces = _pieces(metadata.photoshop, _LONGEST - len(PHOTOSHOP))
        parts.extend(_segment(0xED, PHOTOSHOP + piece) for piece in pieces)
    parts.extend(_segment(COMMENT, comment) for comment in metadata.comments)
    return [bytes(header), *parts, encoded[20:]]


def _density(resolution: Resolution) -> bytes:
    """Unit, x and y of JFIF: integers of 16 bits."""
    exact = resolution.in_unit("inch", "centimetre")
    number = {unit: number for number, unit in UNITS.items()}[exact.unit]
    x, y = (min(max(round(value), 1), 65535) for value in (exact.x, exact.y))
    return struct.pack(">BHH", number, x, y)


def _pieces(data: bytes, most: int) -> list[bytes]:
    return [data[at : at + most] for at in range(0, len(data), most)]


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
