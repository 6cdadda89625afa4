"""The photograph that comes with the package, with noise to remove."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from maxim_deploy.checkpoints import demo_weights
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.picture import Pixels

SIGMA = 25
"""Standard deviation of the added noise, in levels of 255: the middle of the demo model's range."""

JPEG_QUALITY = 90
"""Quality of the sample as JPEG. Cameras and phones save about this, with colours at half size."""


def noisy_photograph() -> tuple[Pixels, Pixels]:
    """(the photograph, the same with Gaussian noise), both uint8 [300, 451, 3]; always the same."""
    clean = read_image(demo_weights().with_name("chelsea.png")).rgb
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    return clean, np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def as_camera_jpeg(picture: Pixels) -> bytes:
    """A picture as a JPEG file with colours at half size (4:2:0), as cameras save it.

    `write_image` keeps colours at full size, which spares the noise and so hides what JPEG does.
    """
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    return file.getvalue()
