"""Files of 8 bits per channel, through Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from maxim_deploy.imaging.metadata import turn_upright
from maxim_deploy.imaging.picture import Picture

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
_FORMATS_WITHOUT_GREY = ("WEBP",)


def picture_from_image(path: Path, image: Image.Image) -> Picture:
    """The pixels and metadata of a file that Pillow has opened."""
    image.load()
    icc_profile = image.info.get("icc_profile")
    is_grey = image.mode in ("1", "L", "LA")
    exif = turn_upright(path, image)
    if image.mode == "CMYK":
        image, icc_profile = _rgb_from_cmyk(image, icc_profile), None
    elif image.mode == "LAB":
        icc_profile = None  # it is of Lab, which Pillow converts to sRGB
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        rgb, alpha = rgba[..., :3].copy(), rgba[..., 3].copy()
    else:
        rgb, alpha = np.array(image.convert("RGB")), None
    return Picture(rgb, alpha, is_grey, icc_profile, exif)


def _rgb_from_cmyk(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if not icc_profile:
        return image.convert("RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    assert converted is not None  # only an in-place conversion returns None
    return converted


def encoded(image_format: str, picture: Picture) -> memoryview:
    """A file's content, made in memory, as libtiff would swallow errors of the disk.

    Args:
        image_format: "PNG", "JPEG", "WEBP", "TIFF" or "BMP".
        picture: uint8.
    """
    image = Image.fromarray(picture.rgb)
    if picture.is_grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    options = dict(_SAVE_OPTIONS[image_format])
    if picture.exif:
        options["exif"] = picture.exif
        # Pillow cannot write EXIF's nested directories through libtiff, which compresses.
        options.pop("compression", None)
    if picture.icc_profile and not (picture.is_grey and image_format in _FORMATS_WITHOUT_GREY):
        options["icc_profile"] = picture.icc_profile
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getbuffer()
