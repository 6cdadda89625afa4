"""Encode a picture with all metadata that its format can hold."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from maxim_deploy.imaging.formats import exif, jpeg_writing, png_writing, tiff_writing
from maxim_deploy.imaging.formats.samples import samples_from_picture
from maxim_deploy.imaging.inventory import HOLDS, THINGS
from maxim_deploy.imaging.picture import Picture

# PNG: zlib level 1 takes 16 ms for a 512x512 photo and makes 397 kB; level 4 takes 31 ms for
# 366 kB and Pillow's default, 6, takes 74 ms for 362 kB. JPEG: full colour resolution (4:4:4).
# WebP: `exact` keeps the colour below transparent pixels.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WebP": {"lossless": True, "exact": True},
    "BMP": {},
}


def left_out(image_format: str, picture: Picture) -> Iterator[str]:
    """Contents of a picture that the format cannot hold, in words."""
    held = HOLDS[image_format]
    too_long = jpeg_writing.too_long(picture) if image_format == "JPEG" else {}
    for thing, found in THINGS.items():
        if (what := found(picture)) and thing not in held:
            chunks = [name.decode() for name, _ in what] if thing.endswith(" chunks") else []
            names = f" ({', '.join(dict.fromkeys(chunks))})" if chunks else ""
            yield f"the {thing}{names}, which {image_format} output does not keep"
        elif thing in too_long:
            yield f"the {thing} ({too_long[thing]})"
    if _has_profile_of_grey(image_format, picture):
        yield "the ICC profile for grey, because WebP stores RGB"


def encoded(image_format: str, picture: Picture) -> list[bytes | memoryview]:
    """A file's content, made in memory because libtiff would hide errors of the disk.

    Args:
        image_format: a name in `HOLDS`.
        picture: uint8, or uint16 for PNG and TIFF. Contents that the format cannot hold are
            dropped.

    Returns:
        The content in pieces.
    """
    if image_format == "TIFF":
        return tiff_writing.tiff_from_picture(picture)
    if picture.rgb.dtype == np.uint16:
        return png_writing.with_metadata(
            png_writing.sixteen_bit_png(samples_from_picture(picture)), picture
        )
    options = dict(_SAVE_OPTIONS[image_format])
    if image_format == "WebP":
        profile = None if _has_profile_of_grey(image_format, picture) else picture.icc_profile
        carried = {"icc_profile": profile, "exif": picture.exif, "xmp": picture.metadata.xmp}
        options.update({name: data for name, data in carried.items() if data})
    buffer = io.BytesIO()
    _image(picture).save(buffer, image_format, **options)
    content = buffer.getbuffer()
    if image_format == "BMP":
        return [_with_density(content, picture)]
    add = {"PNG": png_writing.with_metadata, "JPEG": jpeg_writing.with_metadata}.get(image_format)
    return add(content, picture) if add else [content]


def _image(picture: Picture) -> Image.Image:
    image = Image.fromarray(picture.rgb)
    if picture.is_grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def _has_profile_of_grey(image_format: str, picture: Picture) -> bool:
    return image_format == "WebP" and picture.is_grey and bool(picture.icc_profile)


def _with_density(content: memoryview, picture: Picture) -> memoryview:
    """Set the resolution in BMP's header, per metre; Pillow would round it to inches first."""
    if resolution := picture.metadata.resolution or exif.resolution_from_exif(picture.exif):
        exact = resolution.in_unit("metre")
        if exact.unit == "metre":
            content[38:46] = struct.pack("<ii", round(exact.x), round(exact.y))
    return content
