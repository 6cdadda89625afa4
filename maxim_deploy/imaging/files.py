"""Image files to arrays and back. File contents are kept, or a warning or error names them.

It reads PNG, JPEG, WebP, TIFF, BMP, GIF, PBM/PGM/PPM and (if Pillow has it) AVIF of one frame and
up to 8 bits per channel. PNG and TIFF may have 16 bits, with the extra `hdr`. The output keeps the
bit depth, alpha bit for bit, greyness, and all that `inventory` lists. Pixels are turned upright.
EXIF loses its thumbnail, which would show the picture before restoration.
"""

from __future__ import annotations

import logging
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from maxim_deploy._files import atomic_file
from maxim_deploy.errors import ImageError, MissingDependencyError, UsageError, nearest, quoted
from maxim_deploy.imaging._reasons import reason
from maxim_deploy.imaging.formats.contents import THUMBNAIL, Contents, upright_xmp
from maxim_deploy.imaging.formats.exif import upright_exif
from maxim_deploy.imaging.formats.reading import contents_of
from maxim_deploy.imaging.formats.writing import encoded, left_out
from maxim_deploy.imaging.inventory import WITH_16_BITS, WITH_ALPHA
from maxim_deploy.imaging.kinds import read_format
from maxim_deploy.imaging.limits import bytes_to_restore, check_max_pixels, check_pixels
from maxim_deploy.imaging.metadata import Metadata
from maxim_deploy.imaging.orientation import orientation_from_exif
from maxim_deploy.imaging.picture import Picture, Pixels

INPUT_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
)

FORMAT_OF_SUFFIX = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""The formats that are written, by the suffix that asks for each."""

_LARGEST_SIDE = {"JPEG": 65500, "WebP": 16383}  # limits of libjpeg and of the WebP format

logger = logging.getLogger(__name__)


def check_input_file(path: Path, kind: str = "image") -> None:
    """Check that `path` is a file that could be an image or a video.

    Args:
        path: the file.
        kind: word for errors, "image" or "video".

    Raises:
        ImageError: it is missing, a folder, a device or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{kind} {quoted(path)} | cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{kind} {quoted(path)} | is a folder | expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{kind} {quoted(path)} | is not a regular file | expected a file")
    if status.st_size == 0:
        raise ImageError(f"{kind} {quoted(path)} | the file is empty")


def check_output_suffix(path: Path) -> None:
    """Check that `write_image` knows the format of the name.

    Raises:
        UsageError: the suffix is unknown; the message lists the known ones.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMAT_OF_SUFFIX:
        raise UsageError(
            f"output {quoted(path)} | suffix {suffix!r}{nearest(suffix, FORMAT_OF_SUFFIX)} | "
            f"the formats written are {', '.join(FORMAT_OF_SUFFIX)}"
        )


def check_output_holds(path: Path, picture: Picture) -> None:
    """Check that the format of `path` can hold the picture.

    Raises:
        ImageError: the format lacks alpha or 16 bits that the picture has, or the picture is too
            large.
        UsageError: the suffix is not known.
    """
    check_output_suffix(path)
    if why := why_not_held(FORMAT_OF_SUFFIX[path.suffix.lower()], picture):
        raise ImageError(f"output {quoted(path)} | {why}")


def why_not_held(image_format: str, picture: Picture) -> str | None:
    """Why a format, such as "JPEG", cannot hold a picture, and what to do; None if it can."""
    if picture.rgb.dtype == np.uint16 and image_format not in WITH_16_BITS:
        return (
            f"{image_format} cannot hold the 16 bits per channel of the input | write .png or .tif"
        )
    if picture.alpha is not None and image_format not in WITH_ALPHA:
        return (
            f"{image_format} cannot hold the transparency of the input | "
            "write .png, .webp or .tif, or remove the alpha channel from the input"
        )
    height, width = picture.rgb.shape[:2]
    largest = _LARGEST_SIDE.get(image_format, max(height, width))
    if max(height, width) > largest:
        return (
            f"{height}x{width} pixels, but {image_format} has up to {largest} a side | "
            "write .png or .tif"
        )
    return None


def read_image(path: str | Path, *, max_pixels: int | None = None) -> Picture:
    """Read an image file: its upright pixels and its metadata.

    Files of 8 bits per channel become uint8. PNG and TIFF of 16 bits become uint16, which needs the
    extra `hdr`. CMYK becomes sRGB, through the embedded profile if there is one. Lab and palettes
    become RGB. A warning in the log names contents that a picture cannot hold, and damage that does
    not affect the pixels. Several threads may call this at once.

    Args:
        path: a PNG, JPEG, WebP, TIFF, BMP, GIF, PBM, PGM, PPM or AVIF file, whatever its suffix.
        max_pixels: most pixels of a picture; None for as many as fit the available memory.

    Raises:
        ImageError: the file cannot be read, is damaged or of another kind, has more than one frame,
            more bits per channel than are kept, or more pixels than fit.
        UsageError: `max_pixels` is below 1.

    Example:
        >>> import maxim_deploy
        >>> picture = maxim_deploy.read_image("photos/a.jpg")
        >>> picture.rgb.shape, picture.rgb.dtype, picture.alpha, picture.is_grey
        ((48, 64, 3), dtype('uint8'), None, False)
    """
    path = Path(path)
    check_max_pixels(max_pixels)
    return _opened(path, lambda found: _picture(path, found, max_pixels))


def read_image_size(path: str | Path, *, max_pixels: int | None = None) -> tuple[int, int]:
    """Height and width of an upright image file, without decoding pixels.

    Args:
        path: the image file; its content tells the format.
        max_pixels: as in `read_image`.

    Raises:
        ImageError: as `read_image`, for problems that show without decoding pixels.
        UsageError: `max_pixels` is below 1.
    """
    path = Path(path)
    check_max_pixels(max_pixels)

    def size(found: Contents) -> tuple[int, int]:
        check_pixels(found, max_pixels)
        orientation, _, _ = _settled(found)
        is_turned = orientation_from_exif(orientation).is_transposed
        return (found.width, found.height) if is_turned else (found.height, found.width)

    return _opened(path, size)


T = TypeVar("T")


def _opened(path: Path, use: Callable[[Contents], T]) -> T:
    """The result of `use` on an open file. Every error of a library becomes an `ImageError`."""
    check_input_file(path)
    try:
        with reading_errors(), path.open("rb") as file:
            return use(contents_of(read_format(file), file))
    except ImageError as error:
        raise ImageError(f"image {quoted(path)} | {error}") from error.__cause__


@contextmanager
def reading_errors() -> Iterator[None]:
    """Raise every error of a library that reads as an `ImageError`, without the file's name."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except MissingDependencyError as error:
        raise ImageError(
            f"has 16 bits per channel, and reading 8 of them would lose the rest | {error}"
        ) from error
    except Exception as error:  # Pillow raises nearly any type for damaged files
        raise ImageError(f"cannot be read: {reason(error)}") from error


def _picture(path: Path, found: Contents, max_pixels: int | None) -> Picture:
    check_pixels(found, max_pixels)

    def complain(damage: str) -> None:
        logger.warning("image '%s': %s", path, damage)

    def leave_out(thing: str) -> None:
        # Every photograph of a camera has a thumbnail: a folder of them is no reason to warn.
        level = logging.INFO if thing == THUMBNAIL else logging.WARNING
        logger.log(level, "image '%s': left out: %s", path, thing)

    return picture_from(found, complain, leave_out)


def picture_from(
    found: Contents, complain: Callable[[str], None], leave_out: Callable[[str], None]
) -> Picture:
    """Decode what a file holds, within `reading_errors`, and turn it upright.

    Args:
        found: of a file that is still open.
        complain: is told of damage that does not matter to the pixels.
        leave_out: is told of what the file carries and a picture does not.
    """
    orientation, exif, metadata = _settled(found)
    for damage in found.damage:
        complain(damage)
    for thing in found.left_out:
        leave_out(thing)
    decoded = found.decode(found.icc_profile, complain)
    turn = orientation_from_exif(orientation).upright
    alpha = None if decoded.alpha is None else turn(decoded.alpha)
    rgb = turn(decoded.rgb)
    left_out = tuple(found.left_out)
    return Picture(rgb, alpha, decoded.is_grey, decoded.icc_profile, exif, metadata, left_out)


def _settled(found: Contents) -> tuple[int, bytes | None, Metadata]:
    """The orientation, and EXIF and metadata after applying it. Notes removed parts."""
    exif, metadata = None, found.metadata
    of_exif = of_xmp = None
    if found.exif:
        try:
            of_exif, exif, had_thumbnail, damaged = upright_exif(found.exif)
            found.damage += [f"damaged EXIF tag {tag:#06x} is left out" for tag in damaged]
            if had_thumbnail and THUMBNAIL not in found.left_out:
                found.left_out.append(THUMBNAIL)
        except ValueError as error:
            found.damage.append(f"damaged EXIF is left out: {error}")
    if metadata.xmp:
        of_xmp, xmp = upright_xmp(metadata.xmp)
        metadata = replace(metadata, xmp=xmp)
    orientation = found.orientation or of_exif or of_xmp or 1
    if metadata.resolution and orientation_from_exif(orientation).is_transposed:
        metadata = replace(metadata, resolution=metadata.resolution.transposed())
    return orientation, exif, metadata


def bytes_to_read(path: Path) -> int:
    """Most memory for reading an image; the file's length if that is unknown."""
    try:
        return _opened(path, lambda x: bytes_to_restore(x.height, x.width, x.bits, x.kind))
    except ImageError:  # `read_image` will report the error
        with suppress(OSError):
            return path.stat().st_size
        return 0


def left_out_of(path: Path, picture: Picture) -> list[str]:
    """Contents of a picture that a file of this name will lack, in words.

    Raises:
        UsageError: the suffix is not known.
    """
    check_output_suffix(path)
    return list(left_out(FORMAT_OF_SUFFIX[path.suffix.lower()], picture))


def write_image(path: str | Path, rgb: Pixels, like: Picture | None = None) -> None:
    """Write an image in the format of its suffix. The file appears whole or not at all.

    PNG, WebP, TIFF and BMP are lossless. JPEG has quality 95 and 4:4:4. A warning in the log names
    contents that the format cannot hold. A replaced file keeps its mode and owner.

    Args:
        path: file in an existing folder, .png, .jpg, .webp, .tif or .bmp. It may exist.
        rgb: uint8 or uint16 [H, W, 3].
        like: the picture that provides alpha (of the same H and W), greyness, ICC profile, EXIF and
            other metadata. Grey is Pillow's luma of `rgb`, so a grey profile stays valid.

    Raises:
        UsageError: the suffix is unknown, or an array has another shape or dtype.
        ImageError: the format cannot hold the picture, or the file cannot be written.
        MissingDependencyError: a PNG of 16 bits needs the extra `hdr`.

    Example:
        >>> import maxim_deploy
        >>> picture = maxim_deploy.read_image("photos/a.jpg")
        >>> maxim_deploy.write_image("mirrored.png", picture.rgb[:, ::-1], like=picture)
    """
    path = Path(path)
    picture = replace(like, rgb=rgb) if like else Picture(rgb)
    _check_arrays(picture)
    check_output_holds(path, picture)
    image_format = FORMAT_OF_SUFFIX[path.suffix.lower()]
    for thing in left_out_of(path, picture):
        logger.warning("output '%s': left out: %s", path, thing)
    try:
        content = encoded_picture(image_format, picture)
    except ImageError as error:
        raise ImageError(f"output {quoted(path)} | {error}") from error.__cause__
    try:
        with atomic_file(path) as file:
            file.writelines(content)
    except OSError as error:
        raise ImageError(f"output {quoted(path)} | cannot be written: {reason(error)}") from error


def encoded_picture(image_format: str, picture: Picture) -> list[bytes | memoryview]:
    """The content of a file in a format that can hold the picture, in pieces.

    Raises:
        ImageError: the picture cannot be encoded.
        MissingDependencyError: a PNG of 16 bits, and the extra `hdr` is not installed.
    """
    try:
        return encoded(image_format, picture)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise ImageError(f"cannot be encoded: {reason(error)}") from error


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
