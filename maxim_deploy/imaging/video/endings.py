"""Find out from a video file's layout whether its end is missing.

Most containers consist of elements with a length. A file that ends inside an element was cut off:

- MP4 and MOV (boxes), AVI (RIFF chunks) and WMV (objects): every cut that loses a frame is found,
  except one between two fragments of a fragmented MP4.
- Matroska and WebM: the same. In a live recording of open length, a cut inside a cluster or block
  is found, but not one between two.
- FLV: a cut inside a tag is found. A cut between two tags is found if the file promises a duration
  and more than a frame and a quarter of a second is missing.
- Ogg: a cut inside a page or a packet is found, but not one between two packets.
- MPEG-TS: a cut inside a packet (188 bytes, or more with a time before it or parity after it) is
  found. A cut between two packets but inside a frame leaves the stream's last packet full. So does
  one complete frame in 184, so `last_frame` decodes it to be sure.
- MPEG-PS is not checked here. libav reports a cut inside a packet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

_Element = tuple[bool, int]
"""Whether an element's contents matter, and the distance to the next: over it, or into it."""

_HEAD = 32
_ASF = bytes.fromhex("26b2758e66cf11a6d900aa0062ce6c")
_OGG_PAGE = 27 + 255 + 255 * 255
_TS_TAIL = 64 * 204
_TS_SYNC = 0x47
_TS_PACKET = 188
_TS_STRIDES = (188, 192, 204)
"""Lengths of a packet: plain, with four bytes of time (M2TS), with 16 bytes of parity."""


def missing_end(path: Path, formats: Collection[str]) -> str | None:
    """Why the file must have been longer, in words; None without proof.

    Args:
        path: of the file.
        formats: libav's names of its container.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        for name, (element, spare) in _ELEMENTS.items():
            if name in formats and (lacking := _lacking(file, element)) > spare:
                return f"at least {lacking} bytes are missing at its end"
        if "ogg" in formats and _ends_inside_page(file):
            return "its last Ogg page is cut off"
        if "mpegts" in formats and any(len(last) < _TS_PACKET for last in _ts_packets(file)[-1:]):
            return "its last MPEG-TS packet is cut off"
    return None


def may_lack_end(path: Path, stream_id: int) -> bool:
    """Whether an MPEG-TS ends with a full packet of this stream, as after a cut inside a frame.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        for packet in reversed(_ts_packets(file)):
            has_payload = packet[3] & 0x10
            if has_payload and (packet[1] & 0x1F) << 8 | packet[2] == stream_id:
                return not _is_filled(packet)
    return False


def _lacking(file: BinaryIO, element: Callable[[bytes], _Element | None]) -> int:
    """The bytes that the file lacks of an element that matters."""
    size, at, matters = file.seek(0, os.SEEK_END), 0, False
    while at < size:
        file.seek(at)
        found = element(file.read(_HEAD))
        # Untrusted input: a length of zero would loop for ever.
        if found is None or found[1] <= 0:
            return 0  # open length, or appended data
        matters, at = found[0], at + found[1]
    return at - size if matters else 0


def _box(head: bytes) -> _Element | None:
    """An element of ISO base media: length (1: it follows; 0: to the end), name."""
    length, name = int.from_bytes(head[:4]), head[4:8]
    if len(head) < 8 or not name.isascii():
        return None
    return name in (b"mdat", b"moov", b"moof"), int.from_bytes(
        head[8:16]
    ) if length == 1 else length


def _ebml(head: bytes) -> _Element | None:
    """An element of Matroska: name, length. Their leading zero bits give their number of bytes."""
    if len(head) < 12 or head[0] < 0x10:
        return None
    start = 9 - head[0].bit_length()
    count = 9 - head[start].bit_length()
    length = int.from_bytes(head[start : start + count]) - (1 << 7 * count)
    if count > 8:
        return None
    name = head[:start].hex()
    is_open = length == (1 << 7 * count) - 1
    # The file's header, segment, cluster, block group, and block.
    matters = name in ("1a45dfa3", "18538067", "1f43b675", "a0", "a3")
    return (matters, start + count + (0 if is_open else length))


def _chunk(head: bytes) -> _Element | None:
    """An element of RIFF: name, length of the content. Unfinished files leave it open."""
    length = int.from_bytes(head[4:8], "little")
    return (True, 8 + length) if head[:4] == b"RIFF" and 0 < length < 0xFFFFFFFF else None


def _object(head: bytes) -> _Element | None:
    """An element of ASF: GUID, length. The header and the data matter."""
    return (head[1:16] == _ASF, int.from_bytes(head[16:24], "little")) if len(head) > 23 else None


def _tag(head: bytes) -> _Element | None:
    """An element of FLV, after the file's header: kind, length of the data.

    The whole length follows.
    """
    if head[:3] == b"FLV":
        return True, int.from_bytes(head[5:9]) + 4
    return (True, 11 + int.from_bytes(head[1:4]) + 4) if head[0] in (8, 9, 18) else None


_ELEMENTS = {
    "mov": (_box, 0),
    "matroska": (_ebml, 0),
    # Some writers count a chunk's header too; the last bytes belong to the index
    "avi": (_chunk, 8),
    "asf": (_object, 0),
    "flv": (_tag, 4),  # the length after the last tag
}
"""Parsers by libav's name of the container, and the bytes that a complete file may lack."""


def _ends_inside_page(file: BinaryIO) -> bool:
    """Also inside a packet of Ogg: all its pieces but the last have 255 bytes."""
    tail = _tail(file, _OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    count = page[26] if len(page) > 26 else 256
    pieces = page[27 : 27 + count]
    return len(page) < 27 + count + sum(pieces) or pieces[-1:] == b"\xff"


def _ts_packets(file: BinaryIO) -> list[bytes]:
    """The last packets of an MPEG-TS. The last one may be incomplete. Empty if there are none."""
    tail = _tail(file, _TS_TAIL)
    # The sync byte occurs in payloads too. The right stride meets it in every packet.
    for stride in _TS_STRIDES:
        for first in range(min(stride, len(tail))):
            if set(tail[first::stride]) == {_TS_SYNC}:
                starts = range(first, len(tail), stride)
                return [tail[start : start + _TS_PACKET] for start in starts]
    return []


def _is_filled(packet: bytes) -> bool:
    """Whether an MPEG-TS packet has padding before its payload."""
    if not packet[3] & 0x20:
        return False
    length, flags = packet[4], packet[5]
    if length == 0 or flags & 0x03:  # one byte of padding, or private data of any length
        return length == 0 or packet[4 + length] == 0xFF
    clocks, splice = (flags & 0x10) // 0x10 + (flags & 0x08) // 0x08, (flags & 0x04) // 0x04
    return length > bool(flags) + 6 * clocks + splice


def _tail(file: BinaryIO, length: int) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - length))
    return file.read()
