"""Samples of 16 bits per channel, as files store them: grey or RGB, with or without alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.imaging.formats.contents import Decoded
from maxim_deploy.imaging.picture import Picture


def decoded_from_samples(pixels: NDArray[np.uint16], icc_profile: bytes | None) -> Decoded:
    """A picture from [H, W, C]: grey, grey and alpha, RGB, or RGB and alpha."""
    is_grey, has_alpha = pixels.shape[2] < 3, pixels.shape[2] in (2, 4)
    colours = pixels[..., [0, 0, 0]] if is_grey else pixels[..., :3]
    # Copied: a view would keep all four channels alive.
    alpha = np.ascontiguousarray(pixels[..., -1]) if has_alpha else None
    return Decoded(np.ascontiguousarray(colours), alpha, is_grey, icc_profile)


def samples_from_picture(picture: Picture) -> NDArray[Any]:
    """The inverse for an upright picture of 8 or 16 bits."""
    channels = [_luma(picture.rgb) if picture.is_grey else picture.rgb]
    if picture.alpha is not None:
        channels.append(picture.alpha[..., np.newaxis])
    return np.concatenate(channels, axis=-1) if len(channels) > 1 else channels[0]


def _luma(rgb: NDArray[Any]) -> NDArray[Any]:
    """Luma [H, W, 1] by Pillow's weights, which sum to 2^16, so grey stays the same grey."""
    red, green, blue = np.moveaxis(rgb.astype(np.uint32), -1, 0)
    luma = (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16
    grey: NDArray[Any] = luma.astype(rgb.dtype)
    return grey[..., np.newaxis]
