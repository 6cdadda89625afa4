"""Before and after under one slider, and an error map."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maxim_deploy._optional import require
from maxim_deploy.errors import UsageError
from maxim_deploy.parity.metrics import psnr

Pixels = NDArray[np.uint8]

MIN_LEVELS = 4
"""The map's brightest colour stands for at least so many levels: rounding is not to look bad."""

_COLOURS = "magma"


@dataclass(frozen=True)
class BeforeAfter:
    """A picture before and after.

    Attributes:
        name: shown as text.
        before, after: uint8 `[H, W, 3]` RGB, of one size.
        target: the true picture, or None. With a target the map shows the error of `after`, without
            one the change.
        note: a sentence about the picture.
    """

    name: str
    before: Pixels
    after: Pixels
    target: Pixels | None = None
    note: str = ""

    def __post_init__(self) -> None:
        others = [] if self.target is None else [self.target]
        for picture in (self.before, self.after, *others):
            if picture.dtype != np.uint8 or picture.shape != (*self.before.shape[:2], 3):
                raise UsageError(
                    f"picture {self.name!r} must be uint8 {(*self.before.shape[:2], 3)}, not "
                    f"{picture.dtype} {picture.shape}"
                )

    @property
    def quality(self) -> str | None:
        """Return PSNR before and after, or None without a target."""
        if self.target is None:
            return None
        before, after = (psnr(one, self.target, peak=255) for one in (self.before, self.after))
        return f"{before:.2f} dB before, {after:.2f} dB after: {after - before:+.2f} dB"


class ErrorMap(NamedTuple):
    """A map of the remaining error, or of the change.

    Attributes:
        pixels: uint8 `[H, W, 3]`.
        text: description of the map.
        colours: colours of its scale, from 0 to `brightest` levels of 255.
        brightest: level with the last colour.
    """

    pixels: Pixels
    text: str
    colours: list[str]
    brightest: float


def map_of(picture: BeforeAfter) -> ErrorMap:
    """Return the error map of a picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    levels, brightest = error_map(picture)
    mean = float(_difference(picture).mean())
    colormap = require("matplotlib", "bench").colormaps[_COLOURS]
    to_hex = require("matplotlib.colors", "bench").to_hex
    what = "What was changed" if picture.target is None else "What is still wrong"
    return ErrorMap(
        colormap(np.minimum(levels / brightest, 1), bytes=True)[..., :3],
        f"{what}: {mean:.2f} levels of 255 in the mean over all values, {levels.max():.0f} at "
        "most. The map shows the largest of the three channels",
        [to_hex(colormap(k / 8)) for k in range(9)],
        brightest,
    )


def error_map(picture: BeforeAfter) -> tuple[NDArray[np.float32], float]:
    """Return (largest channel difference at every pixel, difference that is shown brightest)."""
    largest = _difference(picture).max(axis=2)
    return largest, max(float(np.percentile(largest, 99.9)), MIN_LEVELS)


def _difference(picture: BeforeAfter) -> NDArray[np.float32]:
    """Return the absolute difference `[H, W, 3]` from the target, or from the input without one."""
    other = picture.before if picture.target is None else picture.target
    return np.abs(picture.after.astype(np.float32) - other.astype(np.float32))


def data_uri(picture: Pixels) -> str:
    """Encode a picture as a data URI of lossless WebP."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
