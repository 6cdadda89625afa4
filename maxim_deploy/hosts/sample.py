"""The photograph that comes with the package, with noise to remove."""

from __future__ import annotations

import numpy as np

from maxim_deploy.checkpoints import demo_weights
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.picture import Pixels

SIGMA = 25
"""Standard deviation of the added noise, in levels of 255: the middle of the demo model's range."""


def noisy_photograph() -> tuple[Pixels, Pixels]:
    """(the photograph, the same with Gaussian noise), both uint8 [300, 451, 3]; always the same."""
    clean = read_image(demo_weights().with_name("chelsea.png")).rgb
    noise = np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    return clean, np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
