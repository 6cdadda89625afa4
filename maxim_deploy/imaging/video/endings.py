"""How a video file is laid out, and by that whether its end is missing.

Most containers are elements that say how long they are, so that a file which ends inside one has
been cut:

- MP4 and MOV (boxes), AVI (RIFF chunks) and WMV (objects): any cut that costs a frame shows, but
  for one between two fragments of a fragmented MP4.
- Matroska and WebM: likewise. Where a live recording leaves the length of the whole open, a cut
  inside a cluster or block shows, and one between two does not.
- FLV: a cut inside a tag shows; one between two if the file promises a time, and more is missing
  than a frame and a quarter of a second.
- Ogg: a cut inside a page, or a packet, shows; one between two packets does not.
- MPEG-TS: a cut inside a packet (188 bytes, with a time before it or parity behind it more) shows.
  Of one between two packets that is inside a frame there is only a sign, that the last packet of
  the stream is full, and so is that of one whole frame in 184: `last_frame` looks closer.
- MPEG-PS is not looked at here; libav reports what is cut inside a packet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

_Element = tuple[bool, int]
"""Whether its contents matter, and how far it is to the next one: to its end, or into it."""

_HEAD = 32
_ASF = bytes.fromhex("26b2758e66cf11a6d900aa0062ce6c")
_OGG_PAGE = 27 + 255 + 255 * 255
_TS_TAIL = 64 * 204
_TS_SYNC = 0x47
_TS_PACKET = 188
_TS_STRIDES = (188, 192, 204)
"""A packet alone, after four bytes of time (M2TS), and before 16 bytes of parity."""


def missing_end(path: Path, formats: Collection[str]) -> str | None:
    """Why the file must have been longer, in words; None if nothing proves it.

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
    """Whether an MPEG-TS ends with a full packet of this stream, as it would inside a frame.

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
    """How many bytes an element that matters has beyond the end of the file."""
    size, at, matters = file.seek(0, os.SEEK_END), 0, False
    while at < size:
        file.seek(at)
        found = element(file.read(_HEAD))
        # A length of zero would loop for ever: these are bytes from a file, not to be trusted.
        if found is None or found[1] <= 0:
            return 0  # of a length left open, or something appended
        matters, at = found[0], at + found[1]
    return at - size if matters else 0


def _box(head: bytes) -> _Element | None:
    """Of ISO base media: length (1: it follows; 0: to the end), name."""
    length, name = int.from_bytes(head[:4]), head[4:8]
    if len(head) < 8 or not name.isascii():
        return None
    return name in (b"mdat", b"moov", b"moof"), int.from_bytes(
        head[8:16]
    ) if length == 1 else length


def _ebml(head: bytes) -> _Element | None:
    """Of Matroska: name, length; the zeros before the first one say of how many bytes they are."""
    if len(head) < 12 or head[0] < 0x10:
        return None
    start = 9 - head[0].bit_length()
    count = 9 - head[start].bit_length()
    length = int.from_bytes(head[start : start + count]) - (1 << 7 * count)
    if count > 8:
        return None
    name = head[:start].hex()
    is_open = length == (1 << 7 * count) - 1
    # The head of the file, segment, cluster, block group, and block.
    matters = name in ("1a45dfa3", "18538067", "1f43b675", "a0", "a3")
    return (matters, start + count + (0 if is_open else length))


def _chunk(head: bytes) -> _Element | None:
    """Of RIFF: name, length of what follows, which files in the making and streams leave open."""
    length = int.from_bytes(head[4:8], "little")
    return (True, 8 + length) if head[:4] == b"RIFF" and 0 < length < 0xFFFFFFFF else None


def _object(head: bytes) -> _Element | None:
    """Of ASF: GUID, length; what matters is the head and the data."""
    return (head[1:16] == _ASF, int.from_bytes(head[16:24], "little")) if len(head) > 23 else None


def _tag(head: bytes) -> _Element | None:
    """Of FLV, behind the head of the file: kind, length of the data; the whole length follows."""
    if head[:3] == b"FLV":
        return True, int.from_bytes(head[5:9]) + 4
    return (True, 11 + int.from_bytes(head[1:4]) + 4) if head[0] in (8, 9, 18) else None


_ELEMENTS = {
    "mov": (_box, 0),
    "matroska": (_ebml, 0),
    "avi": (_chunk, 8),  # some count the head of a chunk too; the last bytes are of the index
    "asf": (_object, 0),
    "flv": (_tag, 4),  # the length behind the last tag
}
"""By libav's name of a container, and how many bytes may be missing at the end of a whole file."""


def _ends_inside_page(file: BinaryIO) -> bool:
    """Or inside a packet of Ogg, whose pieces are of 255 bytes but for the last."""
    tail = _tail(file, _OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    count = page[26] if len(page) > 26 else 256
    pieces = page[27 : 27 + count]
    return len(page) < 27 + count + sum(pieces) or pieces[-1:] == b"\xff"


def _ts_packets(file: BinaryIO) -> list[bytes]:
    """The last packets of an MPEG-TS, the very last as far as it goes; empty if there are none."""
    tail = _tail(file, _TS_TAIL)
    # The sync byte occurs in payloads too. Only a stride that meets it all the way is the packets'.
    for stride in _TS_STRIDES:
        for first in range(min(stride, len(tail))):
            if set(tail[first::stride]) == {_TS_SYNC}:
                starts = range(first, len(tail), stride)
                return [tail[start : start + _TS_PACKET] for start in starts]
    return []


def _is_filled(packet: bytes) -> bool:
    """Whether an MPEG-TS packet has more in front of its payload than it has to say there."""
    if not packet[3] & 0x20:
        return False
    length, flags = packet[4], packet[5]
    if length == 0 or flags & 0x03:  # one byte of filling; or private data, of any length
        return length == 0 or packet[4 + length] == 0xFF
    clocks, splice = (flags & 0x10) // 0x10 + (flags & 0x08) // 0x08, (flags & 0x04) // 0x04
    return length > bool(flags) + 6 * clocks + splice


def _tail(file: BinaryIO, length: int) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - length))
    return file.read()
