"""Photoshop's image resources, which hold IPTC in JPEG: "8BIM", number, name, length, data."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_IPTC = 0x0404
_THUMBNAILS = (0x0409, 0x040C)  # thumbnails would show the picture before restoration


def has_thumbnail(resources: bytes) -> bool:
    """Whether there is a thumbnail."""
    return any(number in _THUMBNAILS for number, _, _ in _each(resources))


def without_thumbnails(resources: bytes) -> bytes | None:
    """The same bytes without the thumbnails; None if nothing is left."""
    kept = [whole for number, whole, _ in _each(resources) if number not in _THUMBNAILS]
    return b"".join(kept) or None


def iptc_from_resources(resources: bytes) -> bytes | None:
    """The IPTC records, if there are any."""
    return next((data for number, _, data in _each(resources) if number == _IPTC), None)


def resources_from_iptc(records: bytes) -> bytes:
    """The resource that holds IPTC records."""
    head = b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(records))
    return head + records + bytes(len(records) % 2)


def _each(resources: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, whole resource, data) of each resource, up to the first damaged one."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        name = resources[at + 6] + 1
        start = at + 6 + name + name % 2 + 4
        if start > len(resources):
            return
        (length,) = struct.unpack_from(">I", resources, start - 4)
        end = start + length + length % 2
        # Some programs do not pad the last one.
        yield number, resources[at:end].ljust(end - at, b"\0"), resources[start : start + length]
        at = end
