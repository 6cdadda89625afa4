"""Before and after under one slider, and a map of what is still wrong."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maxim_deploy._optional import require
from maxim_deploy.benchmarks.report.markup import Markup, element
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
        target: what it should be; the map then shows how far `after` is from it, and without one
            what has been changed.
        note: a sentence about it.
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


def shown(picture: BeforeAfter) -> Markup:
    """The slider and the map, side by side where there is room."""
    heading = element("h3", picture.name)
    note = element("p", picture.note, class_="muted") if picture.note else None
    both = element("div", _slider(picture), _map(picture), class_="pictures")
    return element("article", heading, note, both, class_="picture")


def error_map(picture: BeforeAfter) -> tuple[NDArray[np.float32], float]:
    """(largest difference of the three channels at every pixel, level that is shown brightest)."""
    other = picture.before if picture.target is None else picture.target
    difference = np.abs(picture.after.astype(np.float32) - other.astype(np.float32)).max(axis=2)
    return difference, max(float(np.percentile(difference, 99.9)), MIN_LEVELS)


def data_uri(picture: Pixels) -> str:
    """A picture as lossless WebP in the page itself."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _slider(picture: BeforeAfter) -> Markup:
    height, width = picture.before.shape[:2]
    size: dict[str, Any] = {"width": width, "height": height}
    before = element("img", src=data_uri(picture.before), alt=f"{picture.name}, before", **size)
    after = element(
        "img", src=data_uri(picture.after), alt=f"{picture.name}, after", class_="after", **size
    )
    control = element(
        "input",
        type="range",
        min="0",
        max="100",
        value="50",
        step="1",
        aria_label=f"{picture.name}: share of the picture that is shown before restoration",
        aria_valuetext="50 % before",
    )
    frame = element(
        "div",
        before,
        after,
        element("span", "before", class_="tag left", aria_hidden="true"),
        element("span", "after", class_="tag right", aria_hidden="true"),
        element("span", class_="divider", aria_hidden="true"),
        control,
        class_="slider",
    )
    caption = _quality(picture) or "Drag, or use the arrow keys: before on the left, after right."
    return element("figure", frame, element("figcaption", caption))


def _quality(picture: BeforeAfter) -> str | None:
    if picture.target is None:
        return None
    before, after = (psnr(one, picture.target, peak=255) for one in (picture.before, picture.after))
    return f"{before:.2f} dB before, {after:.2f} dB after: {after - before:+.2f} dB"


def _map(picture: BeforeAfter) -> Markup:
    levels, brightest = error_map(picture)
    colormap = require("matplotlib", "bench").colormaps[_COLOURS]
    coloured = (colormap(np.clip(levels / brightest, 0, 1))[..., :3] * 255).round()
    what = "What was changed" if picture.target is None else "What is still wrong"
    scale = ", ".join(_hex(colormap(k / 8)) for k in range(9))
    height, width = levels.shape
    text = f"{what}: {levels.mean():.2f} levels of 255 in the mean, {levels.max():.0f} at most"
    return element(
        "figure",
        element(
            "img",
            src=data_uri(coloured.astype(np.uint8)),
            alt=f"{picture.name}, map: {text}",
            width=width,
            height=height,
        ),
        element(
            "figcaption",
            text,
            element(
                "span",
                element("span", "0"),
                element("span", class_="bar", style=f"background: linear-gradient(90deg, {scale})"),
                element("span", f"{brightest:.0f} levels and more"),
                class_="scale",
            ),
        ),
    )


def _hex(colour: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])
