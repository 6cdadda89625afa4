"""Identify formats by content: those that are read, and others with advice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from maxim_deploy.errors import ImageError

_HEAD = 512
"""Bytes at the beginning of a file that identify its format."""

# The first bytes of each format.
_READ = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "PNM": tuple(b"P" + kind for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"f", b"F", b"0f")),
}
READ_FORMATS = (*_READ, "WebP", "AVIF")

_EXPORT = "export it as PNG, JPEG or TIFF"
_HTML = (b"<!DOCTYPE html", b"<!doctype html", b"<html", b"<HTML")
_VIDEO = "a video (MP4 or QuickTime)"
_RAW = "develop it with a raw converter, such as darktable, and save TIFF or PNG"
_HEIC = "convert it, for example: heif-convert photo.heic photo.png"


@dataclass(frozen=True)
class _Other:
    """A format that is not read: its name, the place of its signature, and advice."""

    name: str
    marks: tuple[bytes, ...]
    advice: str
    at: int = 0


# ISO media files name their brand at byte 8. The first match below is the format.
_BRANDS = {
    "HEIC": ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), _HEIC),
    "a CR3 raw photograph": ((b"crx ",), _RAW),
    "JPEG XL": ((b"jxl ",), "convert it, for example: djxl photo.jxl photo.png"),
    "JPEG 2000": ((b"jp2 ", b"jpx "), _EXPORT),
}

_OTHERS = (
    _Other("a CR2 raw photograph", (b"CR\2",), _RAW, 8),
    _Other("a RAF raw photograph", (b"FUJIFILMCCD-RAW",), _RAW),
    _Other("an ORF raw photograph", (b"IIRO", b"IIRS", b"MMOR"), _RAW),
    _Other("an RW2 raw photograph", (b"IIU\0",), _RAW),
    _Other("an MRW raw photograph", (b"\0MRM",), _RAW),
    _Other("an X3F raw photograph", (b"FOVb",), _RAW),
    _Other("JPEG XL", (b"\xff\x0a", b"\0\0\0\x0cJXL "), "convert it with djxl"),
    _Other("JPEG 2000", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), _EXPORT),
    _Other("JPEG-XR", (b"II\xbc",), _EXPORT),
    _Other("Photoshop", (b"8BPS",), _EXPORT),
    _Other("GIMP", (b"gimp xcf",), _EXPORT),
    _Other("OpenEXR", (b"\x76\x2f\x31\x01",), "save it as TIFF of 16 bits"),
    _Other("Radiance HDR", (b"#?RADIANCE", b"#?RGBE"), "save it as TIFF of 16 bits"),
    _Other("DDS", (b"DDS ",), _EXPORT),
    _Other("QOI", (b"qoif",), _EXPORT),
    _Other("FLIF", (b"FLIF",), _EXPORT),
    _Other("BPG", (b"BPG\xfb",), _EXPORT),
    _Other("an icon", (b"\0\0\1\0", b"icns"), _EXPORT),
    _Other("PNM with a table of fields (PAM)", (b"P7\n",), _EXPORT),
    _Other("FITS", (b"SIMPLE  =",), "save it as TIFF of 16 bits"),
    _Other("DICOM", (b"DICM",), _EXPORT, 128),
    _Other("DPX", (b"SDPX", b"XPDS"), "save it as TIFF of 16 bits"),
    _Other("Targa", (b"TRUEVISION-XFILE",), _EXPORT),
    _Other("PDF", (b"%PDF",), "render its pages as PNG"),
    _Other("PostScript", (b"%!PS", b"\xc5\xd0\xd3\xc6"), "render it as PNG"),
    _Other("a web page", _HTML, "download the image itself"),
)

_PICTURE_SUFFIXES = frozenset(
    {".heic", ".heif", ".hif", ".avifs", ".jxl", ".jp2", ".j2k", ".jpx", ".jxr", ".psd"}
    | {".psb", ".xcf", ".kra", ".exr", ".hdr", ".dds", ".tga", ".svg", ".svgz", ".eps", ".ai"}
    | {".ico", ".icns", ".qoi", ".flif", ".bpg", ".pcx", ".pam", ".pfm", ".fits", ".fit", ".dcm"}
    | {".dpx", ".cin", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2"}
    | {".raf", ".orf", ".rw2", ".pef", ".ptx", ".x3f", ".mrw", ".3fr", ".fff", ".iiq", ".kdc"}
    | {".dcr", ".erf", ".mef", ".mos", ".srw", ".rwl", ".gpr", ".mpo"}
)
"""Suffixes of pictures that are not read."""


def read_format(file: BinaryIO) -> str:
    """The format of a file, one of `READ_FORMATS`, by its content.

    Raises:
        ImageError: it is another format; the message names it and says how to convert it.
    """
    file.seek(0)
    head = file.read(_HEAD)
    if name := _read_format(head):
        return name
    what, advice = _other_format(head) or ("damaged or not an image", None)
    if advice:
        raise ImageError(f"is {what}, which is not read | {advice}")
    raise ImageError(f"is {what} | expected {', '.join(READ_FORMATS)}")


def skipped_picture(path: Path) -> str | None:
    """Format and advice for a file that looks like a picture but has an unsupported suffix.

    None if it does not look like a picture or cannot be read.
    """
    head = _head(path)
    name, advice = _other_format(head) or ("", "")
    if name and name not in _NO_PICTURES:
        return f"{name} is not read | {advice}"
    if of_suffix := other_picture(path.suffix):
        return of_suffix
    name = _read_format(head) or ""
    # Many texts begin with "BM" or "P1".
    return f"holds {name} under another suffix | name the file itself" if name in _CERTAIN else None


def other_picture(suffix: str) -> str | None:
    """What a file of a suffix is by its name alone, and what to do; None if no such picture."""
    suffix = suffix.lower()
    return f"a {suffix} file is not read | {_EXPORT}" if suffix in _PICTURE_SUFFIXES else None


def _head(path: Path) -> bytes:
    """The first bytes of a file; empty if it cannot be read."""
    if not path.is_file():  # opening a pipe would wait for its other end
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


_NO_PICTURES = ("PDF", "PostScript", "a web page", _VIDEO)
_CERTAIN = ("PNG", "JPEG", "TIFF", "GIF", "WebP", "AVIF")


def _read_format(head: bytes) -> str | None:
    for name, marks in _READ.items():
        if head.startswith(marks) and _other_format(head) is None:
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    is_avif = head[4:8] == b"ftyp" and {b"avif", b"avis"} & _brands(head)
    return "AVIF" if is_avif else None


def _other_format(head: bytes) -> tuple[str, str] | None:
    """Name and advice."""
    if head[4:8] == b"ftyp":
        for name, (brands, advice) in _BRANDS.items():
            if head[8:12] in brands:
                return name, advice
        return (_VIDEO, "give it the suffix .mp4 or .mov")
    for other in _OTHERS:
        if head[other.at :].startswith(other.marks):
            return other.name, other.advice
    if head.lstrip().startswith(b"<") and b"<svg" in head:
        return "SVG", "render it as PNG"
    return None


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO media file: the major brand, a version, compatible brands."""
    names = head[8 : int.from_bytes(head[:4], "big")]
    return {names[at : at + 4] for at in range(0, len(names), 4)}
