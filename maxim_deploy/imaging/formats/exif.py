"""EXIF blocks, edited in place: remaining values keep their bytes and offsets.

Makers' notes contain undocumented offsets into the block, and text may have any encoding. So values
are neither decoded nor moved.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import BinaryIO, NamedTuple

from maxim_deploy.imaging.formats.directory import (
    Entries,
    Entry,
    Header,
    append_directory,
    longs,
    read_directory,
    read_header,
)
from maxim_deploy.imaging.metadata import Resolution, Unit

PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
NESTED = {0x8769: "EXIF", 0x8825: "GPS", 0xA005: "interoperability"}

UNITS: dict[int, Unit] = {1: "aspect", 2: "inch", 3: "centimetre"}

# Tags below 0x0219 describe how a file stores its pixels. The new file has its own (some cameras
# write the old width there). Exceptions, which are kept: document name, description, make, model,
# resolution (x, y, unit), page name, transfer function, software, date, artist, host computer,
# white point, primaries.
_LAST_LAYOUT_TAG = 0x0218
_DESCRIPTIVE_TAGS = frozenset(
    {0x010D, 0x010E, 0x010F, 0x0110, X_RESOLUTION, Y_RESOLUTION, 0x011D, RESOLUTION_UNIT}
    | {0x012D, 0x0131, 0x0132, 0x013B, 0x013C, 0x013E, 0x013F}
)
# XMP, IPTC, Photoshop's resources and layers, and the ICC profile are TIFF tags but not EXIF.
_FOREIGN_TAGS = frozenset({0x014A, 0x02BC, 0x83BB, 0x8649, 0x8773, 0x935C})
_THUMBNAIL, _THUMBNAIL_LENGTH = 0x0201, 0x0202


def outlives_the_file(tag: int) -> bool:
    """Whether a tag of the first directory describes the picture rather than its storage."""
    return tag in _DESCRIPTIVE_TAGS or (tag > _LAST_LAYOUT_TAG and tag not in _FOREIGN_TAGS)


class UprightExif(NamedTuple):
    """An EXIF block after applying its orientation.

    Attributes:
        orientation: the value that the block had, 1 to 8; None if the block has none.
        block: block with its prefix; None if it is empty now.
        had_thumbnail: whether there was a thumbnail.
        damaged: tags that were removed because their values lie outside the block.
    """

    orientation: int | None
    block: bytes | None
    had_thumbnail: bool
    damaged: tuple[int, ...] = ()


def upright_exif(block: bytes) -> UprightExif:
    """The orientation in an EXIF block, and the block after applying it.

    The new block lacks the orientation, tags of storage, and the thumbnail, which would show the
    picture before restoration.

    Args:
        block: with or without its prefix.

    Raises:
        ValueError: the block is damaged.
    """
    block = block.removeprefix(PREFIX)
    file = io.BytesIO(block)
    header = read_header(file)
    if header.is_big:
        raise ValueError("EXIF is in the form of BigTIFF")
    entries, thumbnail_at = read_directory(file, header, header.first)
    orientation = entries[ORIENTATION].numbers(header.order) if ORIENTATION in entries else ()
    rows = _rows(block, header)
    kept = [row for tag, row in rows if tag in entries and outlives_the_file(tag)]
    damaged = tuple(tag for tag, _ in rows if tag not in entries and outlives_the_file(tag))
    whole = None
    if kept:
        table = struct.pack(f"{header.order}H", len(kept)) + b"".join(kept)
        length = 2 + 12 * len(rows) + 4
        edited = bytearray(block)
        # The zeros include the offset of the next directory, which was the thumbnail's.
        edited[header.first : header.first + length] = table.ljust(length, b"\0")
        whole = PREFIX + _without_thumbnail(edited, file, header, thumbnail_at)
    return UprightExif(_known(orientation), whole, thumbnail_at > 0, damaged)


def _rows(block: bytes, header: Header) -> list[tuple[int, bytes]]:
    """Tag and bytes of each row of the first directory."""
    (count,) = struct.unpack_from(f"{header.order}H", block, header.first)
    start = header.first + 2
    rows = [block[start + 12 * k : start + 12 * (k + 1)] for k in range(count)]
    return [(struct.unpack(f"{header.order}H", row[:2])[0], row) for row in rows]


def _known(orientation: tuple[int, ...]) -> int | None:
    return orientation[0] if orientation and orientation[0] in range(1, 9) else None


def _without_thumbnail(block: bytearray, file: io.BytesIO, header: Header, at: int) -> bytes:
    try:
        entries, _ = read_directory(file, header, at) if at else ({}, 0)
        (offset,) = entries[_THUMBNAIL].numbers(header.order)
        (length,) = entries[_THUMBNAIL_LENGTH].numbers(header.order)
    except (KeyError, ValueError):
        return bytes(block)
    if offset + length + 2 >= len(block):  # it usually stands at the end
        return bytes(block[:offset])
    block[offset : offset + length] = bytes(length)
    return bytes(block)


def resolution_of(entries: Entries, order: str) -> Resolution | None:
    """The resolution in the tags of a TIFF or EXIF directory."""
    x, y = (
        entries[tag].rational(order) if tag in entries else None
        for tag in (X_RESOLUTION, Y_RESOLUTION)
    )
    unit = entries[RESOLUTION_UNIT].numbers(order) if RESOLUTION_UNIT in entries else ()
    name = UNITS.get(unit[0] if unit else 2)
    if not x or not y or name is None or (name == "aspect" and x == y):
        return None
    return Resolution(x, y, name)


def resolution_from_exif(exif: bytes | None) -> Resolution | None:
    """The resolution of an EXIF block with its prefix; None without one."""
    if not exif:
        return None
    try:
        entries, order = exif_entries(exif)
    except ValueError:
        return None
    return resolution_of(entries, order)


def exif_entries(exif: bytes) -> tuple[Entries, str]:
    """The first directory of an EXIF block with its prefix, and the byte order."""
    file = io.BytesIO(exif.removeprefix(PREFIX))
    header = read_header(file)
    return read_directory(file, header, header.first)[0], header.order


def exif_from_directory(file: BinaryIO, header: Header, entries: Entries) -> bytes | None:
    """An EXIF block with its prefix, from a directory of a TIFF file; None if it would be empty."""
    kept = {tag: entry for tag, entry in entries.items() if outlives_the_file(tag)}
    kept.pop(ORIENTATION, None)
    if not kept:
        return None
    order = header.order
    block = new_block(order)
    _append_nested(block, file, header, kept)
    finish_block(block, kept, order)
    return PREFIX + bytes(block)


def _append_nested(block: bytearray, file: BinaryIO, header: Header, entries: Entries) -> None:
    """Copy the data that entries point at into the block, and update the entries."""
    for tag in NESTED.keys() & entries.keys():
        pointer = entries.pop(tag).numbers(header.order)
        try:
            inner, _ = read_directory(file, header, pointer[0])
        except (IndexError, ValueError):
            continue  # an offset to nowhere
        # Only the EXIF directory contains another one, so this recursion ends.
        for outer in NESTED.keys() & inner.keys() - {0xA005}:
            del inner[outer]
        _append_nested(block, file, header, inner)
        entries[tag] = longs(header.order, append_directory(block, inner, header.order))


def new_block(order: str) -> bytearray:
    """An empty EXIF block. `finish_block` sets its first directory."""
    return bytearray((b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 0))


def finish_block(block: bytearray, entries: Entries, order: str) -> None:
    """Append the first directory and store its offset in the header."""
    offset = append_directory(block, entries, order)
    block[4:8] = struct.pack(f"{order}I", offset)


def rational_entry(order: str, value: Fraction) -> Entry:
    """A fraction of two 32-bit integers."""
    value = min(value, Fraction(4_000_000)).limit_denominator(1000)
    return Entry(5, 1, struct.pack(f"{order}2I", value.numerator, value.denominator))
