"""Read JPEG: segments before the pixels hold the metadata, which is kept byte for byte."""

from __future__ import annotations

import io
import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import BinaryIO

from PIL import JpegImagePlugin

from maxim_deploy.imaging.formats import exif, photoshop
from maxim_deploy.imaging.formats.contents import THUMBNAIL, Contents
from maxim_deploy.imaging.formats.pillow import decoded, opened
from maxim_deploy.imaging.formats.spliced import Piece, Spliced
from maxim_deploy.imaging.metadata import Metadata, Resolution, Unit

_SCAN, _END, COMMENT = 0xDA, 0xD9, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_JFIF, _ADOBE = 0xE0, 0xEE
XMP, XMP_EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
ICC, PHOTOSHOP = b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_JFIF_MARK = b"JFIF\0"
_KNOWN = (exif.PREFIX, XMP, XMP_EXTENSION, ICC, PHOTOSHOP, _JFIF_MARK)
UNITS: dict[int, Unit] = {0: "aspect", 1: "inch", 2: "centimetre"}

_FURTHER = "the further pictures of the file, such as a gain map or a depth map"
_PADDING = b"\0 \r\n"

# A marker is FF and a byte. In entropy-coded data FF00 is a byte, and FFD0 to FFD7 are restarts.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


@dataclass(frozen=True)
class _Segment:
    marker: int
    start: int
    end: int
    data: bytes = b""


def contents(file: BinaryIO) -> Contents:
    """The contents of a JPEG file.

    Raises:
        SyntaxError: it is damaged beyond reading.
        OSError: it ends before its pixels do.
    """
    with _mapped(file) as data:
        segments = list(_segments(data))
        if not segments:
            raise SyntaxError("there is nothing behind the first marker")
        size, behind = len(data), data[segments[-1].end :].strip(_PADDING)
    ancillary = [s for s in segments if s.marker == COMMENT or 0xE0 <= s.marker <= 0xEF]
    # The segments JFIF and Adobe describe the storage of colours. The library needs no others.
    needed = [s for s in segments if s not in ancillary or s.marker in (_JFIF, _ADOBE)]
    pieces: list[Piece] = [b"\xff\xd8", *((s.start, s.end) for s in needed)]
    is_ended = segments[-1].marker == _END
    if not is_ended:
        pieces += [(segments[-1].end, size), _ending(segments)]
    image = opened(JpegImagePlugin.JpegImageFile, Spliced(file, pieces))
    found = Contents("JPEG", image.height, image.width, partial(decoded, image))
    found.bits = next((s.data[0] for s in segments if s.marker in _FRAMES and s.data), 8)
    if not is_ended:
        found.damage.append("the end marker is missing")
    _take(found, ancillary)
    if behind and _FURTHER not in found.left_out:
        is_picture = behind.startswith(b"\xff\xd8")
        video = f"{len(behind):,} bytes behind the picture, such as a video"
        found.left_out.append(_FURTHER if is_picture else video)
    return found


def _mapped(file: BinaryIO) -> AbstractContextManager[bytes | mmap.mmap]:
    """The content of a file, which is not copied."""
    if isinstance(file, io.BytesIO):
        return nullcontext(file.getvalue())
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _segments(data: bytes | mmap.mmap) -> Iterator[_Segment]:
    """Segments up to the end marker. Scans include their entropy-coded data."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        start = found.end() - 2
        if marker == _END:
            yield _Segment(marker, start, at)
            return
        if marker == 0x01 or at + 2 > len(data):  # TEM has no length
            continue
        (length,) = struct.unpack(">H", data[at : at + 2])
        end = at + max(length, 2)
        if end > len(data):
            return
        content = data[at + 2 : end]
        if marker == _SCAN:
            following = _MARKER.search(data, end)
            end = following.start() if following else len(data)
        yield _Segment(marker, start, end, content)
        at = end


def _ending(segments: list[_Segment]) -> bytes:
    """Bytes that replace a missing end.

    The decoder looks eight bytes ahead. With these bytes it reads a file that lacks only its end,
    and still refuses a file that lacks more. Progressive files need the end marker itself.

    Raises:
        OSError: a progressive file lacks more.
    """
    frame = next((s.data for s in segments if s.marker in _PROGRESSIVE), None)
    if frame is None:
        return bytes(8)
    _check_scans(frame, segments)
    return bytes(8) + b"\xff\xd9"


def _check_scans(frame: bytes, segments: list[_Segment]) -> None:
    """Check that a progressive file has all scans. The decoder accepts any number of them.

    Raises:
        OSError: scans are missing.
    """
    # Each scan refines the coefficients of some components to a bit. All must reach bit 0.
    missing = {(component, k) for component in frame[6::3] for k in range(64)}
    for scan in (s.data for s in segments if s.marker == _SCAN):
        first, last, bits = scan[-3:]
        if bits & 15 == 0:
            missing -= {(c, k) for c in scan[1:-3:2] for k in range(first, last + 1)}
    if missing:
        raise OSError("image file is truncated")


def _take(found: Contents, segments: list[_Segment]) -> None:
    """Divide the segments into those to keep and those to leave out."""
    carriers = [segment for segment in segments if segment.marker != COMMENT]

    def having(prefix: bytes) -> list[bytes]:
        return [s.data[len(prefix) :] for s in carriers if s.data.startswith(prefix)]

    if blocks := having(exif.PREFIX):
        found.exif = exif.PREFIX + b"".join(blocks)
    found.icc_profile = _icc_profile(having(ICC), found.damage)
    resources = b"".join(having(PHOTOSHOP))
    found.metadata = Metadata(
        xmp=next(iter(having(XMP)), None),
        xmp_extension=tuple(XMP_EXTENSION + data for data in having(XMP_EXTENSION)),
        photoshop=photoshop.without_thumbnails(resources),
        resolution=next((_resolution(data) for data in having(_JFIF_MARK)), None),
        comments=tuple(s.data for s in segments if s.marker == COMMENT),
    )
    unknown = [s for s in carriers if s.marker != _ADOBE and not s.data.startswith(_KNOWN)]
    thumbnails = [THUMBNAIL] * photoshop.has_thumbnail(resources)
    found.left_out = list(dict.fromkeys([*map(_left_out, unknown), *thumbnails]))


def _icc_profile(pieces: list[bytes], damage: list[str]) -> bytes | None:
    """Join the pieces of a profile, which begin with their number and their count."""
    ordered = sorted(pieces)
    heads = [bytes([number, len(ordered)]) for number in range(1, len(ordered) + 1)]
    if [piece[:2] for piece in ordered] != heads:
        damage.append("the ICC profile is incomplete and left out")
        return None
    return b"".join(piece[2:] for piece in ordered) or None


def _left_out(segment: _Segment) -> str:
    """Contents of a segment that are not kept, in words."""
    if segment.data.startswith(b"JFXX\0"):
        return THUMBNAIL
    if segment.data.startswith(b"MPF\0"):
        return _FURTHER
    name = segment.data.split(b"\0")[0][:20].decode("ascii", "replace")
    number = segment.marker - 0xE0
    return f"segment APP{number}" + (f" ({name})" if name.isprintable() else "")


def _resolution(jfif: bytes) -> Resolution | None:
    if len(jfif) < 7:
        return None
    unit, x, y = struct.unpack(">BHH", jfif[2:7])  # behind the version
    if unit not in UNITS or not x or not y or (unit == 0 and x == y):
        return None
    return Resolution(Fraction(x), Fraction(y), UNITS[unit])
