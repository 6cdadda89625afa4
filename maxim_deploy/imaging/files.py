"""Image files to arrays and back; what a file holds is kept or refused, never lost unsaid.

Read are PNG, JPEG, WebP, TIFF, BMP, GIF and PBM/PGM/PPM of up to 8 bits per channel, PNG and TIFF
also of 16 (with the extra `hdr`), one frame. Kept from input to output: pixels turned upright by
their EXIF orientation, their bits, alpha bit for bit, greyness, the ICC profile and the EXIF of the
picture (without its thumbnail, which would show the picture before restoration). Other metadata
(XMP, comments) is not carried over.
"""

from __future__ import annotations

import stat
import struct
import threading
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from maxim_deploy._files import atomic_file
from maxim_deploy.errors import ImageError, MissingDependencyError, UsageError, nearest
from maxim_deploy.imaging import eight_bit, sixteen_bit, sixteen_bit_tiff
from maxim_deploy.imaging._reasons import reason
from maxim_deploy.imaging.metadata import check_one_frame
from maxim_deploy.imaging.picture import Picture, Pixels

INPUT_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
_READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")

_FORMAT_OF_SUFFIX = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_FORMATS_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_16_BIT_FORMATS = {
    "PNG": sixteen_bit.png_from_pixels,
    "TIFF": sixteen_bit_tiff.tiff_from_pixels,
}
_LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}  # of libjpeg, and of the WebP format

# `warnings.catch_warnings` swaps a list of the whole process, so one thread at a time.
_reading = threading.Lock()


def check_input_file(path: Path, kind: str = "image") -> None:
    """Whether there is something at `path` that could be an image, or a video.

    Args:
        path: the file.
        kind: what errors call it, "image" or "video".

    Raises:
        ImageError: it is missing, a folder, a device or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{kind} '{path}' | cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{kind} '{path}' | is a folder | expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{kind} '{path}' | is not a regular file | expected a file")
    if status.st_size == 0:
        raise ImageError(f"{kind} '{path}' | the file is empty")


def check_output_suffix(path: Path) -> None:
    """Whether `write_image` knows the format that the name asks for.

    Raises:
        UsageError: it does not; the message lists the suffixes it knows.
    """
    suffix = path.suffix.lower()
    if suffix not in _FORMAT_OF_SUFFIX:
        raise UsageError(
            f"output '{path}' | suffix {suffix!r}{nearest(suffix, _FORMAT_OF_SUFFIX)} | "
            f"the formats written are {', '.join(_FORMAT_OF_SUFFIX)}"
        )


def check_output_holds(path: Path, picture: Picture) -> None:
    """Whether the format of `path` can hold what belongs to the picture.

    Raises:
        ImageError: the picture has alpha or 16 bits and the format has not, or is too large for it.
        UsageError: the suffix is not known.
    """
    check_output_suffix(path)
    image_format = _FORMAT_OF_SUFFIX[path.suffix.lower()]
    if picture.rgb.dtype == np.uint16 and image_format not in _16_BIT_FORMATS:
        raise ImageError(
            f"output '{path}' | {image_format} cannot hold the 16 bits per channel of the input | "
            "write .png or .tif"
        )
    if picture.alpha is not None and image_format not in _FORMATS_WITH_ALPHA:
        raise ImageError(
            f"output '{path}' | {image_format} cannot hold the transparency of the input | "
            "write .png, .webp or .tif, or remove the alpha channel from the input"
        )
    height, width = picture.rgb.shape[:2]
    largest = _LARGEST_SIDE.get(image_format, max(height, width))
    if max(height, width) > largest:
        raise ImageError(
            f"output '{path}' | {height}x{width} pixels, and {image_format} has up to {largest} "
            "a side | write .png or .tif"
        )


def read_image(path: str | Path) -> Picture:
    """Read an image file: its pixels, turned upright, and what belongs to them.

    Files of 8 bits per channel become uint8; PNG and TIFF of 16 bits become uint16, which needs the
    extra `hdr`. CMYK becomes sRGB, through the embedded profile if there is one; Lab and palettes
    become RGB. Reads of several threads take turns.

    Args:
        path: a PNG, JPEG, WebP, TIFF, BMP, GIF, PBM, PGM or PPM file, whatever its suffix.

    Raises:
        ImageError: the file cannot be read, is damaged, has more than one frame, more bits per
            channel than are kept, or more pixels than Pillow's limit against decompression bombs.

    Example:
        >>> import maxim_deploy
        >>> picture = maxim_deploy.read_image("photos/a.jpg")
        >>> picture.rgb.shape, picture.rgb.dtype, picture.alpha, picture.is_grey
        ((48, 64, 3), dtype('uint8'), None, False)
    """
    path = Path(path)
    check_input_file(path)
    try:
        with _reading, warnings.catch_warnings():
            # Pillow warns at half its limit, which pictures of 100 megapixels reach.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _picture(path)
    except (ImageError, MemoryError):
        raise
    except MissingDependencyError as error:
        raise ImageError(
            f"image '{path}' | has 16 bits per channel, and reading 8 would silently drop the rest "
            f"| {error}"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"image '{path}' | is damaged or not an image | expected {', '.join(_READ_FORMATS)}"
        ) from error
    except Exception as error:  # damaged files make Pillow raise nearly any type
        raise ImageError(f"image '{path}' | cannot be read: {reason(error)}") from error


def pixels_in(path: Path) -> int:
    """How many pixels an image has, by its header; if that cannot be read, the file's bytes."""
    try:
        with _reading, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_READ_FORMATS) as image:
                return image.width * image.height
    except Exception:  # as in `read_image`, which says what is wrong
        with suppress(OSError):
            return path.stat().st_size
        return 0


def write_image(path: str | Path, rgb: Pixels, like: Picture | None = None) -> None:
    """Write an image in the format that its suffix names; the file appears whole or not at all.

    PNG, WebP, TIFF (8 bits with EXIF: uncompressed) and BMP are written without loss, JPEG with
    quality 95 and 4:4:4. BMP holds neither ICC profile nor EXIF, and WebP no profile for grey.

    Args:
        path: .png, .jpg, .webp, .tif or .bmp, in an existing folder; an existing file is replaced.
        rgb: uint8 or uint16 [H, W, 3].
        like: the picture whose alpha (of the same H and W), greyness, ICC profile and EXIF to
            take over. Grey is Pillow's luma of `rgb`, so that a grey profile stays valid.

    Raises:
        UsageError: unknown suffix, or arrays of another shape or dtype.
        ImageError: the format cannot hold the picture, or the file cannot be written.
        MissingDependencyError: a PNG of 16 bits, and the extra `hdr` is not installed.

    Example:
        >>> import maxim_deploy
        >>> picture = maxim_deploy.read_image("photos/a.jpg")
        >>> maxim_deploy.write_image("mirrored.png", picture.rgb[:, ::-1], like=picture)
    """
    path = Path(path)
    picture = replace(like, rgb=rgb) if like else Picture(rgb)
    _check_arrays(picture)
    check_output_holds(path, picture)
    try:
        content = _encoded(_FORMAT_OF_SUFFIX[path.suffix.lower()], picture)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise ImageError(f"output '{path}' | cannot be encoded: {reason(error)}") from error
    try:
        with atomic_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ImageError(f"output '{path}' | cannot be written: {reason(error)}") from error


def _picture(path: Path) -> Picture:
    if sixteen_bit_tiff.is_sixteen_bit_tiff(path):
        return sixteen_bit_tiff.picture_from_tiff(path)
    with Image.open(path, formats=_READ_FORMATS) as image:
        # The further pictures of an MPO (a phone's JPEG) are previews or depth maps of the first.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        check_one_frame(path, frames)
        bits = _bits_per_channel(path, image)
        if bits == 16 and image.format == "PNG":
            return sixteen_bit.picture_from_png(path, image)
        if bits > 8:
            raise ImageError(
                f"image '{path}' | has {bits} bits per channel, and reading 8 would silently drop "
                f"the rest | 16 are read from {' and '.join(_16_BIT_FORMATS)} | convert the file"
            )
        return eight_bit.picture_from_image(path, image)


def _bits_per_channel(path: Path, image: Image.Image) -> int:
    """As stored: Pillow opens 16 bits as if they were 8."""
    if image.format == "PNG":
        with path.open("rb") as file:
            # signature 8, length 4, "IHDR" 4, width 4, height 4, then the bit depth
            return file.read(25)[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(258, (1,))))  # type: ignore[attr-defined]
    if image.format == "PPM":
        # The decoder's arguments are (raw mode, largest value) where that is not 255.
        arguments = image.tile[0][3]  # type: ignore[attr-defined]
        has_more = isinstance(arguments, tuple) and arguments[1] > 255
        return {"F": 32, "I": 16}.get(image.mode, 16 if has_more else 8)
    return 8


def _check_arrays(picture: Picture) -> None:
    rgb, alpha = picture.rgb, picture.alpha
    is_pixels = rgb.dtype in (np.uint8, np.uint16)
    if not is_pixels or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UsageError(
            f"array to write | {rgb.dtype} {list(rgb.shape)} | expected uint8 or uint16 [H, W, 3]"
        )
    if alpha is not None and (alpha.shape != rgb.shape[:2] or alpha.dtype != rgb.dtype):
        raise UsageError(
            f"alpha to write | {alpha.dtype} {list(alpha.shape)} | "
            f"expected {rgb.dtype} {list(rgb.shape[:2])}, as the image"
        )


def _encoded(image_format: str, picture: Picture) -> bytes | memoryview:
    if picture.rgb.dtype == np.uint8:
        return eight_bit.encoded(image_format, picture)
    pixels = sixteen_bit.pixels_from_picture(picture)
    return _16_BIT_FORMATS[image_format](pixels, picture.icc_profile, picture.exif)
