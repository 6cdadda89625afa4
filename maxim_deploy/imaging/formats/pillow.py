"""Pixels of 8 bits per channel, decoded by Pillow into our memory.

Pillow stores a pixel of 3 bytes in 4. We decode into a NumPy array and compact the pixels there:
1.35 times their bytes. `np.asarray(image)` takes 4.6 times.
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
"""The class that holds the memory of Pillow's images."""

_ROWS = 64
"""Rows that are compacted at a time."""

_BYTES = {"L": 1, "P": 1, "I;16": 2}
"""Bytes per pixel in Pillow's memory; 4 in every other mode."""


def opened(plugin: Callable[..., ImageFile.ImageFile], stream: Any) -> ImageFile.ImageFile:
    """Open a file with one of Pillow's plugins.

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
    """Lift Pillow's limit on pixels for a moment. Our limit is in `limits`.

    The limit is a global of the application. Only one thread at a time lifts it: a second thread
        would save and restore "no limit".
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
    """The pixels of an open file. The file cannot be used afterwards.

    Raises:
        Exception: the file is damaged. The type may be nearly any.
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
        icc_profile = None  # the profile describes Lab, which Pillow converts to sRGB
    if not source.has_transparency_data:
        return Decoded(_copied(source, "RGB"), None, is_grey, icc_profile)
    rgba = _copied(source, "RGBA")
    return Decoded(np.ascontiguousarray(rgba[..., :3]), rgba[..., 3].copy(), is_grey, icc_profile)


def _loaded(image: ImageFile.ImageFile) -> NDArray[np.uint8] | None:
    """Decode into our memory, [bytes], which the image then views, if its format allows it."""
    # For a TIFF that lies on its side, `size` is the upright one until decoding.
    width, height = getattr(image, "_tile_size", image.size)
    memory = np.empty(height * width * _BYTES.get(image.mode, 4), np.uint8)
    view = _core.map_buffer(memory, (width, height), "raw", 0, (image.mode, 0, 1))
    image.im = view
    image.load()
    # GIF uses its own memory.
    return memory if image.im is view else None


def _three_times(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rgb = np.empty((*grey.shape, 3), np.uint8)
    rgb[...] = grey[..., np.newaxis]
    return rgb


def _first_three(memory: NDArray[np.uint8], image: Image.Image) -> NDArray[np.uint8]:
    """The first three of four channels, [H, W, 3], in the same memory.

    The image is empty afterwards.
    """
    width, height = image.size
    image.im = _core.new("L", (1, 1))  # Pillow must not keep a view of freed memory
    four, three = memory.reshape(height, -1, 4), memory[: height * width * 3]
    rows = three.reshape(height, width, 3)
    # Towards the beginning: each row overwrites only earlier ones.
    for top in range(0, height, _ROWS):
        rows[top : top + _ROWS] = four[top : top + _ROWS, :, :3].copy()
    del four, three, rows  # views would point at the freed end
    memory.resize(height * width * 3, refcheck=False)
    return memory.reshape(height, width, 3)


def _copied(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    """Convert to a mode of 8 bits per channel, in strips of rows."""
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
        complain("the ICC profile is damaged or not for CMYK, so colours are converted without it")
        return image.convert("RGB")
    assert converted is not None  # only in-place conversions return None
    return converted
