"""Pixels of 8 bits per channel, decoded by Pillow into memory of ours.

Pillow keeps 4 bytes for a pixel of 3. Decoding into an array of NumPy's, in which the pixels then
move together, takes 1.35 times the bytes of the pixels; `np.asarray(image)` takes 4.6 times.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from maxim_deploy.imaging.formats.contents import Decoded

_lifting = threading.Lock()

_core: Any = Image.core  # type: ignore[attr-defined]
"""Where Pillow has the memory of images."""

_ROWS = 64
"""Rows that are moved at a time."""

_BYTES = {"L": 1, "P": 1, "I;16": 2}
"""Per pixel, in Pillow's memory; 4 in every other mode."""


def opened(plugin: Callable[..., ImageFile.ImageFile], stream: Any) -> ImageFile.ImageFile:
    """A file as one of Pillow's plugins opens it.

    Raises:
        SyntaxError: it is damaged.
    """
    try:
        with _without_limit():
            return plugin(stream)
    except (IndexError, TypeError, KeyError, struct.error) as error:
        raise SyntaxError(str(error)) from error


@contextmanager
def _without_limit() -> Iterator[None]:
    """Lift Pillow's limit on pixels for a moment; `limits` has ours.

    The limit is a global that belongs to the application. One thread at a time lifts it: a second
    one would take "no limit" for the application's setting and restore that.
    """
    with _lifting:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def decoded(
    image: ImageFile.ImageFile, icc_profile: bytes | None, complain: Callable[[str], None]
) -> Decoded:
    """The pixels of an open file, which is used up.

    Raises:
        Exception: of nearly any type; the file is damaged.
    """
    memory = _loaded(image)
    width, height = image.size
    is_grey = image.mode in ("1", "L", "LA")
    if memory is not None and image.mode == "RGBA":
        alpha = memory.reshape(height, width, 4)[..., 3].copy()
        return Decoded(_first_three(memory, image), alpha, False, icc_profile)
    if memory is not None and not image.has_transparency_data:
        if image.mode == "RGB":
            return Decoded(_first_three(memory, image), None, False, icc_profile)
        if image.mode == "L":
            return Decoded(_three_times(memory.reshape(height, width)), None, True, icc_profile)
    del memory
    source: Image.Image = image
    if image.mode == "CMYK":
        source, icc_profile = _rgb_from_cmyk(image, icc_profile, complain), None
    elif image.mode == "LAB":
        icc_profile = None  # it is of Lab, which Pillow converts to sRGB
    if not source.has_transparency_data:
        return Decoded(_copied(source, "RGB"), None, is_grey, icc_profile)
    rgba = _copied(source, "RGBA")
    return Decoded(np.ascontiguousarray(rgba[..., :3]), rgba[..., 3].copy(), is_grey, icc_profile)


def _loaded(image: ImageFile.ImageFile) -> NDArray[np.uint8] | None:
    """Decode into memory of ours, [bytes], that the image is a view of, if its format allows it."""
    # Of a TIFF that lies on its side, `size` is the upright one until it is decoded.
    width, height = getattr(image, "_tile_size", image.size)
    memory = np.empty(height * width * _BYTES.get(image.mode, 4), np.uint8)
    view = _core.map_buffer(memory, (width, height), "raw", 0, (image.mode, 0, 1))
    image.im = view
    image.load()
    # GIF brings memory of its own.
    return memory if image.im is view else None


def _three_times(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rgb = np.empty((*grey.shape, 3), np.uint8)
    rgb[...] = grey[..., np.newaxis]
    return rgb


def _first_three(memory: NDArray[np.uint8], image: Image.Image) -> NDArray[np.uint8]:
    """The first three of four channels, [H, W, 3], in the same memory; the image is then empty."""
    width, height = image.size
    image.im = _core.new("L", (1, 1))  # Pillow must not keep a view of what is freed
    four, three = memory.reshape(height, -1, 4), memory[: height * width * 3]
    rows = three.reshape(height, width, 3)
    # Towards the beginning: each row lands where only earlier ones were.
    for top in range(0, height, _ROWS):
        rows[top : top + _ROWS] = four[top : top + _ROWS, :, :3].copy()
    del four, three, rows  # views, which freeing the end would leave without memory
    memory.resize(height * width * 3, refcheck=False)
    return memory.reshape(height, width, 3)


def _copied(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    """The pixels in a mode of 8 bits per channel, by strips of rows."""
    width, height = image.size
    out = np.empty((height, width, len(mode)), np.uint8)
    for top in range(0, height, _ROWS):
        with _without_limit():
            strip = image.crop((0, top, width, min(top + _ROWS, height)))
        out[top : top + _ROWS] = np.asarray(strip if strip.mode == mode else strip.convert(mode))
    return out


def _rgb_from_cmyk(
    image: Image.Image, icc_profile: bytes | None, complain: Callable[[str], None]
) -> Image.Image:
    if not icc_profile:
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        complain("the ICC profile is damaged or not for CMYK; colours are converted without it")
        return image.convert("RGB")
    assert converted is not None  # only an in-place conversion returns None
    return converted
