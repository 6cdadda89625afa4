"""Read PNG: chunks hold the metadata, which is kept byte for byte."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, BinaryIO

from PIL import PngImagePlugin

from maxim_deploy._optional import require
from maxim_deploy.imaging.formats import exif, photoshop
from maxim_deploy.imaging.formats.contents import Contents, Decoded
from maxim_deploy.imaging.formats.pillow import decoded, opened
from maxim_deploy.imaging.formats.samples import decoded_from_samples
from maxim_deploy.imaging.formats.spliced import Piece, Spliced
from maxim_deploy.imaging.metadata import Resolution

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_COLOUR = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
XMP = b"XML:com.adobe.xmp"
RAW_PROFILE = b"Raw profile type "

MOST_BYTES = 64 * 2**20
"""Most bytes of an inflated chunk: more than any profile has, less than a decompression bomb."""


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    start: int
    end: int
    data: bytes
    is_whole: bool

    @property
    def is_critical(self) -> bool:
        return self.kind[:1].isupper()


def contents(file: BinaryIO) -> Contents:
    """The contents of a PNG file.

    Raises:
        SyntaxError: it is damaged beyond reading.
    """
    chunks = list(_chunks(file))
    if not chunks or chunks[0].kind != b"IHDR" or len(chunks[0].data) != 13:
        raise SyntaxError("there is no header")
    width, height, bits = struct.unpack(">IIB", chunks[0].data[:9])
    pieces: list[Piece] = [SIGNATURE]
    pieces += [
        (c.start, c.end) for c in chunks if c.kind in _PIXELS and (c.is_critical or c.is_whole)
    ]
    stream = Spliced(file, [*pieces, _END])
    decode = (
        partial(_sixteen_bits, stream)
        if bits == 16
        else partial(decoded, opened(PngImagePlugin.PngImageFile, stream))
    )
    found = Contents("PNG", height, width, decode, bits)
    if chunks[-1].kind != b"IEND":
        found.damage.append("the end marker is missing")
    elif behind := max(0, file.seek(0, io.SEEK_END) - chunks[-1].end):
        found.left_out.append(f"{behind:,} bytes behind the picture")
    _Sorting(found).take(chunks)
    return found


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """The chunks up to the end. Chunks of pixels come without data."""
    at = file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        end = at + 12 + length
        # Pixels are skipped: the decoder verifies their checksums, and a second copy would double
        # the memory for reading.
        if kind == b"IDAT":
            yield _Chunk(kind, at, end, b"", True)
            file.seek(end)
        else:
            data, checksum = file.read(length), file.read(4)
            is_whole = checksum == struct.pack(">I", zlib.crc32(kind + data))
            yield _Chunk(kind, at, end, data, is_whole)
        if kind == b"IEND" or not kind.isalpha():
            return
        at = end


class _Sorting:
    """Divides chunks into those to keep, those to leave out, and damage."""

    def __init__(self, found: Contents) -> None:
        self._found = found
        self._draft = found.metadata

    def take(self, chunks: list[_Chunk]) -> None:
        for chunk in chunks:
            name = chunk.kind.decode("ascii", "replace")
            if chunk.is_critical:
                if chunk.kind not in (*_PIXELS, b"IEND"):
                    raise SyntaxError(f"chunk {name} is unknown, but needed to decode the pixels")
            elif not chunk.is_whole:
                self._found.damage.append(f"chunk {name} has a wrong checksum and is left out")
            elif chunk.kind not in _PIXELS:
                self._take(chunk.kind, chunk.data)
        self._found.metadata = self._draft

    def _keep(self, **values: Any) -> None:
        self._draft = replace(self._draft, **values)

    def _take(self, kind: bytes, data: bytes) -> None:
        found, draft = self._found, self._draft
        if kind == b"eXIf":
            found.exif = data
        elif kind == b"iCCP":
            found.icc_profile = self._inflated("ICC profile", data.partition(b"\0")[2][1:])
        elif kind in _COLOUR:
            self._keep(colour=(*draft.colour, (kind, data)))
        elif kind in _TEXT:
            self._take_text(kind, data)
        elif kind == b"pHYs" and len(data) == 9:
            self._keep(resolution=_resolution(data))
        elif kind == b"acTL" and len(data) == 8:
            found.frames = struct.unpack(">I", data[:4])[0]
        elif kind[3:].islower():  # "safe to copy"
            self._keep(others=(*draft.others, (kind, data)))
        elif kind not in (b"fcTL", b"fdAT"):  # frames, which are counted elsewhere
            found.left_out.append(f"chunk {kind.decode('ascii', 'replace')}")

    def _take_text(self, kind: bytes, data: bytes) -> None:
        keyword = data.partition(b"\0")[0]
        if keyword == XMP and kind == b"iTXt" and (xmp := _international(data)):
            is_compressed, text = xmp
            self._keep(xmp=self._inflated("XMP", text) if is_compressed else text)
        elif not (keyword.startswith(RAW_PROFILE) and self._take_profile(kind, data)):
            self._keep(text=(*self._draft.text, (kind, data)))

    def _take_profile(self, kind: bytes, data: bytes) -> bool:
        """A profile that ImageMagick stored as text: a name, a length, hexadecimal digits."""
        text = data.partition(b"\0")[2]
        if kind == b"zTXt":
            text = self._inflated("text", text[1:]) or b""
        digits = re.fullmatch(rb"\s*\w+\s+\d+\s+([0-9a-fA-F\s]*)", text)
        try:
            profile = bytes.fromhex(digits[1].decode("ascii")) if digits else b""
        except ValueError:
            return False
        if profile.startswith(exif.PREFIX):
            self._found.exif = self._found.exif or profile
        elif profile.startswith(b"8BIM"):
            self._keep(photoshop=photoshop.without_thumbnails(profile))
        else:
            return False
        return True

    def _inflated(self, thing: str, data: bytes) -> bytes | None:
        inflater = zlib.decompressobj()
        try:
            # The bound applies to the output: some kilobytes can inflate to gigabytes.
            inflated = inflater.decompress(data, MOST_BYTES)
        except zlib.error:
            self._found.damage.append(f"the {thing} is damaged and left out")
            return None
        # At the bound and in a truncated stream alike, the end was not reached.
        if not inflater.eof:
            self._found.damage.append(
                f"the {thing} is cut off or over {MOST_BYTES:,} bytes, and left out"
            )
            return None
        return inflated


def _international(data: bytes) -> tuple[bool, bytes] | None:
    """Whether the text of an iTXt chunk is compressed, and the text."""
    rest = data.partition(b"\0")[2]
    parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
    return (bool(rest[0]), parts[2]) if len(parts) == 3 else None


def _resolution(data: bytes) -> Resolution | None:
    x, y, unit = struct.unpack(">IIB", data)
    if not x or not y or unit > 1 or (unit == 0 and x == y):
        return None
    return Resolution(Fraction(x), Fraction(y), "metre" if unit else "aspect")


def _sixteen_bits(
    stream: Spliced, icc_profile: bytes | None, _complain: Callable[[str], None]
) -> Decoded:
    # Read whole, because the codec takes bytes: this adds the file's length to the memory.
    stream.seek(0)
    pixels = require("imagecodecs", "hdr").png_decode(stream.read())
    return decoded_from_samples(pixels.reshape(*pixels.shape[:2], -1), icc_profile)
