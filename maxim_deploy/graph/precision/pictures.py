"""Extreme pictures, and photographs cropped to a size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.imaging.pixels import fitted, to_batch, to_unit

Pictures = dict[str, NDArray[np.float32]]


def probe_pictures(photos: Mapping[str, NDArray[np.uint8]], height: int, width: int) -> Pictures:
    """Photographs and extremes of one size.

    Args:
        photos: RGB uint8 [h, w, 3] by name. The centre is cropped, or a small photograph is
            mirrored at its edges.
        height: a multiple of 64.
        width: a multiple of 64.

    Returns:
        Pictures by name, float32 [1, 3, height, width] in [0, 1]: the photographs, then all black,
        all white, a checkerboard of single pixels, and noise whose every value is 0 or 1.
    """
    shape = (height, width, 3)
    checkers = np.indices(shape[:2]).sum(0) % 2
    noise = np.random.default_rng(0).integers(0, 2, shape)
    pictures = {
        **{name: fitted(photo, height, width) for name, photo in photos.items()},
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "checkerboard": (255 * np.repeat(checkers[..., None], 3, 2)).astype(np.uint8),
        "saturated noise": (255 * noise).astype(np.uint8),
    }
    return {name: to_batch(to_unit(picture)) for name, picture in pictures.items()}
