"""Directories of TIFF and EXIF: entries as stored, without decoding values.

A TIFF file has a header with the byte order and the offset of the first directory, then directories
and the data that they point at. An EXIF block is a TIFF file without pixels. BigTIFF has offsets of
8 bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

# Bytes of one value by type: BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, SSHORT, SLONG,
# SRATIONAL, FLOAT, DOUBLE, IFD; LONG8, SLONG8 and IFD8 of BigTIFF.
_SIZES = dict(zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True)) | {
    16: 8,
    17: 8,
    18: 8,
}
_LONG8 = 16
_MOST_NUMBERS = 1000
"""Most numbers read from one entry. Useful entries have one per channel. As Python integers they
take ten times the bytes of the file."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_RATIONAL = 5


@dataclass(frozen=True)
class Header:
    """Byte order ("<" or ">"), whether it is BigTIFF, and the offset of the first directory."""

    order: str
    is_big: bool
    first: int


@dataclass(frozen=True)
class Entry:
    """One value of a directory: its type, its count, and its bytes in the file's order."""

    type: int
    count: int
    value: bytes

    def numbers(self, order: str) -> tuple[int, ...]:
        """The first `_MOST_NUMBERS` values if they are unsigned integers, else an empty result."""
        if self.type not in _INTEGERS:
            return ()
        count = min(self.count, _MOST_NUMBERS)
        return struct.unpack_from(f"{order}{count}{_INTEGERS[self.type]}", self.value)

    def rational(self, order: str) -> Fraction | None:
        """The first value, if it is an unsigned fraction."""
        if self.type != _RATIONAL or not self.count:
            return None
        numerator, denominator = struct.unpack(f"{order}2I", self.value[:8])
        return Fraction(numerator, denominator) if denominator else None


Entries = dict[int, Entry]


def shorts(order: str, *values: int) -> Entry:
    """An entry of 16-bit integers."""
    return Entry(3, len(values), struct.pack(f"{order}{len(values)}H", *values))


def longs(order: str, *values: int) -> Entry:
    """An entry of 32-bit integers."""
    return Entry(4, len(values), struct.pack(f"{order}{len(values)}I", *values))


def read_header(file: BinaryIO) -> Header:
    """The header at the beginning of a file.

    Raises:
        ValueError: it is not a TIFF header.
    """
    file.seek(0)
    start = file.read(16)
    for mark, order in ((b"II", "<"), (b"MM", ">")):
        if start[:4] == mark + struct.pack(f"{order}H", 42) and len(start) >= 8:
            return Header(order, False, struct.unpack(f"{order}I", start[4:8])[0])
        if start[:4] == mark + struct.pack(f"{order}H", 43) and len(start) == 16:
            return Header(order, True, struct.unpack(f"{order}Q", start[8:])[0])
    raise ValueError("not a TIFF header")


def read_directory(file: BinaryIO, header: Header, offset: int) -> tuple[Entries, int]:
    """The entries by tag, and the offset of the next directory or 0.

    Entries are left out if the value lies outside the file or has an unknown type.

    Raises:
        ValueError: there is no directory.
    """
    size = file.seek(0, io.SEEK_END)
    count_form, row_form, next_form = ("Q", "HHQ8s", "Q") if header.is_big else ("H", "HHI4s", "I")
    (count,) = _unpacked(file, offset, header.order + count_form)
    row_size = struct.calcsize("<" + row_form)
    if count * row_size > size:
        raise ValueError("a directory is longer than its file")
    table = file.read(count * row_size)
    if len(table) < count * row_size:
        raise ValueError("a directory is cut off")
    entries: Entries = {}
    # A missing offset of the next directory ends the chain, as in many viewers.
    following = file.read(struct.calcsize(next_form))
    total = 0
    for tag, kind, number, inline in struct.iter_unpack(header.order + row_form, table):
        length = _SIZES.get(kind, size + 1) * number
        if length <= len(inline):
            entries[tag] = Entry(kind, number, inline[:length])
        elif (start := int(struct.unpack(header.order + next_form, inline)[0])) + length <= size:
            # Thousands of entries may each claim the whole file.
            if (total := total + length) > size:
                raise ValueError("the values of a directory are longer than its file")
            file.seek(start)
            entries[tag] = Entry(kind, number, file.read(length))
    whole = len(following) == struct.calcsize(next_form)
    return entries, struct.unpack(header.order + next_form, following)[0] if whole else 0


def append_directory(block: bytearray, entries: Mapping[int, Entry], order: str) -> int:
    """Append a directory to a block. Returns its offset."""
    block.extend(bytes(len(block) % 2))
    offset = len(block)
    block.extend(directory_bytes(entries, order, offset))
    return offset


def directory_bytes(entries: Mapping[int, Entry], order: str, offset: int) -> bytes:
    """A directory for an offset, followed by the values that do not fit into its entries.

    Types of BigTIFF are left out.
    """
    rows = [(tag, entries[tag]) for tag in sorted(entries) if entries[tag].type < _LONG8]
    values_at = offset + 2 + 12 * len(rows) + 4
    table, values = struct.pack(f"{order}H", len(rows)), bytearray()
    for tag, entry in rows:
        inline = entry.value.ljust(4, b"\0")
        if len(entry.value) > 4:
            inline = struct.pack(f"{order}I", values_at + len(values))
            values += entry.value + bytes(len(entry.value) % 2)
        table += struct.pack(f"{order}HHI4s", tag, entry.type, entry.count, inline)
    return table + bytes(4) + values


def _unpacked(file: BinaryIO, offset: int, form: str) -> tuple[int, ...]:
    file.seek(offset)
    data = file.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise ValueError("an offset points outside the file")
    return struct.unpack(form, data)
