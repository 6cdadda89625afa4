"""Image files to uint8 arrays and back; what a file holds is kept or refused, never lost unsaid.

Read are PNG, JPEG, WebP, TIFF, BMP, GIF and PBM/PGM/PPM of up to 8 bits per channel, one frame.
Kept from input to output: pixels turned upright by their EXIF orientation, alpha bit for bit,
greyness, the ICC profile and the EXIF of the picture (without its thumbnail, which would show the
picture before restoration). Other metadata (XMP, comments) is not carried over.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import struct
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from maxim_deploy._files import atomic_file
from maxim_deploy.errors import ImageError, UsageError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

INPUT_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
_READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")

# PNG: zlib level 1 takes 16 ms for a 512x512 photo and makes 397 kB; level 4 takes 31 ms for
# 366 kB and Pillow's default, 6, takes 74 ms for 362 kB. JPEG: full colour resolution (4:4:4).
# WebP: `exact` keeps the colour below transparent pixels.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "BMP": {},
}
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
_FORMATS_WITHOUT_GREY = ("WEBP",)
_LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}  # of libjpeg, and of the WebP format

# Tags below 0x0219 say how a file stores its pixels, which the new file states for itself (some
# cameras write the old width there, and Pillow would believe it), except for these.
_LAST_LAYOUT_TAG = 0x0218
_DESCRIPTIVE_TAGS = frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
    }
)
# XMP, IPTC, Photoshop resources and the ICC profile live among a TIFF's tags but are not EXIF.
_FOREIGN_TAGS = frozenset({0x02BC, 0x83BB, 0x8649, 0x8773})

# `warnings.catch_warnings` swaps a list of the whole process, so one thread at a time.
_reading = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """One image as read from a file, upright.

    Attributes:
        rgb: uint8 [H, W, 3], C-contiguous, sRGB order; grey pictures have three equal channels.
        alpha: uint8 [H, W], not premultiplied, or None if the file has no transparency.
        is_grey: the file holds one colour channel, and so will what is written like it.
        icc_profile: the embedded profile that describes `rgb` (or its one grey channel).
        exif: the EXIF block, starting with `Exif`, without orientation, thumbnail and layout tags.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    is_grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None


def check_input_file(path: Path) -> None:
    """Whether there is something at `path` that could be an image.

    Raises:
        ImageError: it is missing, a folder, a device or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"image '{path}' | cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"image '{path}' | is a folder | expected an image file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"image '{path}' | is not a regular file | expected an image file")
    if status.st_size == 0:
        raise ImageError(f"image '{path}' | the file is empty")


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
        ImageError: the picture has alpha and the format has not, or is too large for the format.
        UsageError: the suffix is not known.
    """
    check_output_suffix(path)
    image_format = _FORMAT_OF_SUFFIX[path.suffix.lower()]
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


def read_image(path: Path) -> Picture:
    """The picture in a file.

    CMYK becomes sRGB, through the embedded profile if there is one; palettes become RGB. Reads of
    several threads take turns.

    Raises:
        ImageError: the file cannot be read, is damaged, has more than one frame, more than 8 bits
            per channel, or more pixels than Pillow's limit against decompression bombs.
    """
    check_input_file(path)
    try:
        with _reading, warnings.catch_warnings():
            # Pillow warns at half its limit, which pictures of 100 megapixels reach.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_READ_FORMATS) as image:
                _check_nothing_is_lost(path, image)
                return _picture(path, image)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"image '{path}' | is damaged or not an image | expected {', '.join(_READ_FORMATS)}"
        ) from error
    except Exception as error:  # damaged files make Pillow raise nearly any type
        raise ImageError(f"image '{path}' | cannot be read: {_reason(error)}") from error


def write_image(path: Path, rgb: NDArray[np.uint8], like: Picture | None = None) -> None:
    """Write an image in the format that its suffix names; the file appears whole or not at all.

    PNG, WebP, TIFF (with EXIF: uncompressed) and BMP are written without loss, JPEG with quality 95
    and 4:4:4. BMP holds neither ICC profile nor EXIF, and WebP no profile for grey.

    Args:
        path: where to; an existing file is replaced.
        rgb: uint8 [H, W, 3].
        like: the picture whose alpha (of the same H and W), greyness, ICC profile and EXIF to
            take over. Grey is Pillow's luma of `rgb`, so that a grey profile stays valid.

    Raises:
        UsageError: unknown suffix, or arrays of another shape or dtype.
        ImageError: the format cannot hold the picture, or the file cannot be written.
    """
    like = like or Picture(rgb)
    _check_arrays(rgb, like.alpha)
    check_output_holds(path, like)
    try:
        encoded = _encoded(_FORMAT_OF_SUFFIX[path.suffix.lower()], rgb, like)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise ImageError(f"output '{path}' | cannot be encoded: {_reason(error)}") from error
    try:
        with atomic_file(path) as file:
            file.write(encoded)
    except OSError as error:
        raise ImageError(f"output '{path}' | cannot be written: {_reason(error)}") from error


def _check_nothing_is_lost(path: Path, image: Image.Image) -> None:
    # The further pictures of an MPO (a phone's JPEG) are previews or depth maps of the first.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(
            f"image '{path}' | has {frames} frames, of which all but one would be dropped | "
            "split it into files of one frame each"
        )
    bits = _bits_per_channel(path, image)
    if bits > 8:
        raise ImageError(
            f"image '{path}' | has {bits} bits per channel, and reading 8 would silently drop the "
            "rest | this version restores files of 8 bits per channel | convert the file, or read "
            "it with the libraries of the extra hdr (pip install 'maxim-deploy[hdr]') and give "
            "the uint16 array to a Restorer"
        )


def _bits_per_channel(path: Path, image: Image.Image) -> int:
    """As stored: Pillow opens deep colour as if it had 8 bits."""
    if image.format == "PNG":
        with path.open("rb") as file:
            # signature 8, length 4, "IHDR" 4, width 4, height 4, then the bit depth
            return file.read(25)[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(258, (1,))))  # type: ignore[attr-defined]
    if image.format == "PPM":
        # The decoder's arguments are (raw mode, largest value) where that is not 255.
        arguments = image.tile[0][3]  # type: ignore[attr-defined]
        is_deep = isinstance(arguments, tuple) and arguments[1] > 255
        return {"F": 32, "I": 16}.get(image.mode, 16 if is_deep else 8)
    return 8


def _picture(path: Path, image: Image.Image) -> Picture:
    image.load()
    icc_profile = image.info.get("icc_profile")
    is_grey = image.mode in ("1", "L", "LA")
    exif = _turn_upright(path, image)
    if image.mode == "CMYK":
        image, icc_profile = _rgb_from_cmyk(image, icc_profile), None
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        rgb, alpha = rgba[..., :3].copy(), rgba[..., 3].copy()
    else:
        rgb, alpha = np.array(image.convert("RGB")), None
    return Picture(rgb, alpha, is_grey, icc_profile, exif)


def _turn_upright(path: Path, image: Image.Image) -> bytes | None:
    """Apply the EXIF orientation in place; the EXIF that then still holds."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
        exif = image.getexif()
        for tag in [tag for tag in exif if not _outlives_the_file(tag)]:
            del exif[tag]
        return exif.tobytes() if exif else None
    except Exception as error:  # damaged metadata should not cost the picture
        logger.warning("image '%s': damaged EXIF is left out: %s", path, _reason(error))
        return None


def _outlives_the_file(tag: int) -> bool:
    return tag in _DESCRIPTIVE_TAGS or (tag > _LAST_LAYOUT_TAG and tag not in _FOREIGN_TAGS)


def _rgb_from_cmyk(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if not icc_profile:
        return image.convert("RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    assert converted is not None  # only an in-place conversion returns None
    return converted


def _check_arrays(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise UsageError(
            f"array to write | {rgb.dtype} {list(rgb.shape)} | expected uint8 [H, W, 3]"
        )
    if alpha is not None and alpha.shape != rgb.shape[:2]:
        raise UsageError(
            f"alpha to write | {list(alpha.shape)} | expected {list(rgb.shape[:2])}, as the image"
        )


def _encoded(image_format: str, rgb: NDArray[np.uint8], like: Picture) -> memoryview:
    """The file's content; made in memory, as libtiff would swallow errors of the disk."""
    image = Image.fromarray(rgb)
    if like.is_grey:
        image = image.convert("L")
    if like.alpha is not None:
        image.putalpha(Image.fromarray(like.alpha))
    options = dict(_SAVE_OPTIONS[image_format])
    if like.exif:
        options["exif"] = like.exif
        # Pillow cannot write EXIF's nested directories through libtiff, which compresses.
        options.pop("compression", None)
    if like.icc_profile and not (like.is_grey and image_format in _FORMATS_WITHOUT_GREY):
        options["icc_profile"] = like.icc_profile
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getbuffer()


def _reason(error: Exception) -> str:
    """The system's words without the path, or the library's, or at least the type."""
    words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return words or type(error).__name__
