"""TIFF files of 16 bits per channel: tifffile reads them, Pillow's directories write them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from maxim_deploy._optional import require
from maxim_deploy.errors import ImageError
from maxim_deploy.imaging.metadata import check_one_frame
from maxim_deploy.imaging.picture import Picture
from maxim_deploy.imaging.sixteen_bit import picture_from_pixels

WHITE = 65535

_ICC_TAG = 34675
_UNSIGNED = 1
_PREMULTIPLIED, _PLAIN = 1, 2  # kinds of alpha
_COLOURS = {0: 1, 1: 1, 2: 3}
"""Colour channels by TIFF's photometric interpretation: white is zero, black is zero, RGB."""


def is_sixteen_bit_tiff(path: Path) -> bool:
    """Whether the file is a TIFF of 16 bits per channel; Pillow does not open all of those."""
    try:
        with path.open("rb") as file:
            directory = _first_directory(file)
            return bool(max(directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) == 16)
    except Exception:  # no TIFF, or a damaged one: Pillow says so
        return False


def picture_from_tiff(path: Path) -> Picture:
    """Read a TIFF of 16 bits per channel.

    Raises:
        MissingDependencyError: the extra `hdr` is not installed.
        ImageError: it has several frames, or samples that are no 16-bit RGB, grey and alpha.
    """
    require("imagecodecs", "hdr")  # tifffile decompresses with it
    tifffile = require("tifffile", "hdr")
    with tifffile.TiffFile(path) as tiff:
        check_one_frame(path, len(tiff.pages))
        page = tiff.pages[0]
        _check_samples(path, page)
        _check_size(path, page.imagelength, page.imagewidth)
        stored = page.asarray(squeeze=False)  # planes, depth, H, W, channels
        icc_profile = page.tags.valueof(_ICC_TAG)
    pixels = np.moveaxis(stored[:, 0], 0, -1).reshape(*stored.shape[2:4], -1)
    colours = _COLOURS[page.photometric]
    if page.photometric == 0:
        pixels = np.concatenate([WHITE - pixels[..., :1], pixels[..., 1:]], axis=-1)
    if _PREMULTIPLIED in page.extrasamples:
        pixels = _not_premultiplied(pixels, colours)
    with path.open("rb") as file:
        return picture_from_pixels(path, pixels, icc_profile, lambda: _exif_of_tiff(file))


def _first_directory(file: BinaryIO) -> TiffImagePlugin.ImageFileDirectory_v2:
    header = file.read(8)
    if header[:4] in (b"II\x2b\0", b"MM\0\x2b"):  # BigTIFF
        header += file.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    file.seek(directory.next)
    directory.load(file)
    return directory


def _exif_of_tiff(file: BinaryIO) -> Image.Exif:
    """As `TiffImageFile.getexif` has it; the values are read from the file as they are needed."""
    header = _first_directory(file)
    exif = Image.Exif()
    exif.bigtiff, exif.endian = header._bigtiff, header._endian
    exif.load_from_fp(file, header._offset)
    return exif


def _check_samples(path: Path, page: Any) -> None:
    """Refuse what `Picture` cannot hold."""
    extras = [int(kind) for kind in page.extrasamples]
    channels = _COLOURS.get(page.photometric, 0) + len(extras)
    if (
        (page.bitspersample, page.sampleformat, page.imagedepth) != (16, _UNSIGNED, 1)
        or page.samplesperpixel != channels
        or extras not in ([], [_PREMULTIPLIED], [_PLAIN])
    ):
        raise ImageError(
            f"image '{path}' | holds samples of {page.bitspersample} bits, format "
            f"{page.sampleformat}, photometric interpretation {int(page.photometric)}, extra "
            f"samples {extras} | of 16-bit TIFF, unsigned RGB and grey are read, with or without "
            "alpha | convert the file"
        )
    if 0 in page.databytecounts:
        raise ImageError(f"image '{path}' | cannot be read: parts of its pixels are missing")


def _check_size(path: Path, height: int, width: int) -> None:
    """Pillow's limit against decompression bombs, for what it has not opened."""
    limit = 2 * (Image.MAX_IMAGE_PIXELS or height * width)
    if height * width > limit:
        raise ImageError(
            f"image '{path}' | cannot be read: {height * width} pixels, and up to {limit} are read"
        )


def _not_premultiplied(pixels: NDArray[np.uint16], colours: int) -> NDArray[np.uint16]:
    """Colours divided by alpha, rounded; black where alpha is 0, and they are not known."""
    alpha = pixels[..., colours:].astype(np.uint64)
    plain = (pixels[..., :colours] * np.uint64(WHITE) + alpha // 2) // np.maximum(alpha, 1)
    plain = np.where(alpha > 0, np.minimum(plain, WHITE), 0)
    return np.concatenate([plain, alpha], axis=-1).astype(np.uint16)


def tiff_from_pixels(pixels: NDArray[np.uint16], icc: bytes | None, exif: bytes | None) -> bytes:
    """The content of a TIFF file: one strip, deflated.

    tifffile cannot write the directories that EXIF nests; Pillow can.
    """
    height, width, channels = pixels.shape
    directory = Image.Exif()  # an EXIF block is a TIFF file without pixels, which go behind it
    directory.load(exif or b"")
    steps = pixels.copy()
    steps[:, 1:] -= pixels[:, :-1]  # modulo 2^16
    order = "<" if directory.endian == "<" else ">"  # without EXIF, Pillow writes the latter
    strip = zlib.compress(steps.astype(f"{order}u2").tobytes(), level=1)
    names = TiffImagePlugin
    directory.update(
        {
            names.IMAGEWIDTH: width,
            names.IMAGELENGTH: height,
            names.BITSPERSAMPLE: (16,) * channels,
            names.COMPRESSION: 8,  # deflate
            names.PHOTOMETRIC_INTERPRETATION: 1 if channels < 3 else 2,
            names.STRIPOFFSETS: 0,  # behind the directory, to whose end Pillow counts on
            names.SAMPLESPERPIXEL: channels,
            names.ROWSPERSTRIP: height,
            names.STRIPBYTECOUNTS: len(strip),
            names.PREDICTOR: 2,  # steps along a row
        }
    )
    if channels in (2, 4):
        directory[names.EXTRASAMPLES] = 2  # alpha, not premultiplied
    if icc:
        directory[_ICC_TAG] = icc
    return directory.tobytes().removeprefix(b"Exif\0\0") + strip
