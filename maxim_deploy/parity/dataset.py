"""Measure quality on a data set: pairs of pictures, two conventions, averages.

A data set is a folder with `input/` and `target/`. Files of the same name, with any suffix, form a
pair.

- **reference**, as the authors' script prints: PSNR over RGB of the float result times 255, neither
  clipped nor rounded, against the target's levels. A network of the image form has no float result.
  For a folder's truncated pictures, half a level is added.
- **paper**, as in tables of papers: the result in 8 bits, with PSNR and SSIM (11x11 Gaussian
  window, sigma 1.5, range 255) over RGB, the SSIM of each channel averaged, and for deraining over
  the Y channel of MATLAB's `rgb2ycbcr`. The code behind the paper's tables is not public: these are
  the conventions of the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import ImageError, UsageError, quoted
from maxim_deploy.imaging import Rounding, from_unit, to_unit
from maxim_deploy.imaging.files import read_image
from maxim_deploy.parity.comparison import LEVELS, Pixels, json_number
from maxim_deploy.parity.metrics import WINDOW, luma, psnr, ssim
from maxim_deploy.parity.pictures import Sample, image_files
from maxim_deploy.parity.stage import Stage
from maxim_deploy.parity.stored import Folder
from maxim_deploy.spec.models import PUBLISHED

METRICS = ("reference", "paper")
Score = dict[str, float]
"""Of one picture: `psnr` (reference), `paper_psnr` and `ssim` (paper), those asked for."""


class Pair(NamedTuple):
    """A picture and its target."""

    name: str
    input: Path
    target: Path


@dataclass(frozen=True)
class Conventions:
    """The conventions of a measurement.

    Attributes:
        metrics: of `METRICS`.
        channel: of the paper's metrics, "rgb" or "y".
        rounding: how results become 8 bits for the paper's metrics; None for nearest. A folder's
            pictures are truncated already, unless it is "nearest".
        self_ensemble: restore by the published mean over eight rotations and flips.
    """

    metrics: tuple[str, ...] = METRICS
    channel: str = "rgb"
    rounding: Rounding | None = None
    self_ensemble: bool = False

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON, where the mean over eight is `ensemble`."""
        known = asdict(self)
        return {**known, "ensemble": known.pop("self_ensemble")}


def metrics_of(stage: Stage, asked: str | None) -> tuple[str, ...]:
    """The metrics of a stage: both, or only "paper" for a network with 8-bit results.

    Args:
        stage: to measure.
        asked: one of `METRICS`, or "both"; None for those that there are.

    Raises:
        UsageError: the reference metric was asked for, and there is no float result.
    """
    metrics = METRICS if asked in (None, "both") else (str(asked),)
    if "reference" not in metrics or not stage.is_8bit or isinstance(stage, Folder):
        return metrics
    if asked:
        raise UsageError(
            f"--metric {asked} | the reference metric needs a float result, but {stage.name!r} "
            "returns 8 bits | measure the tensor form, or pass --metric paper"
        )
    return ("paper",)


def channel_of(task: str | None) -> str:
    """The channel that tables of a task are made of: "y" for deraining."""
    return "y" if task == "deraining" else "rgb"


def pairs_in(folder: Path) -> tuple[list[Pair], dict[str, str]]:
    """All pairs of a data set, and a text for each file without a counterpart, by name.

    Raises:
        UsageError: a folder is missing or has no picture, or nothing forms a pair.
        ImageError: two files have one name.
    """
    inputs, targets = (image_files(folder / name) for name in ("input", "target"))
    pairs = [Pair(name, inputs[name], targets[name]) for name in inputs if name in targets]
    alone = {
        name: f"{quoted(path)} | has no {missing}"
        for files, others, missing in ((inputs, targets, "target"), (targets, inputs, "input"))
        for name, path in files.items()
        if name not in others
    }
    if not pairs:
        raise UsageError(f"data set {quoted(folder)} | no file of input/ has its name in target/")
    return pairs, alone


def score(stage: Stage, pair: Pair, conventions: Conventions) -> Score:
    """Restore one picture and measure it.

    Raises:
        ImageError: a file cannot be read, the sizes differ, or SSIM's window does not fit.
        MaximDeployError: the stage fails.
    """
    image, target = read_image(pair.input).rgb, read_image(pair.target).rgb
    if image.shape != target.shape:
        sizes = " and ".join("x".join(map(str, x.shape[:2])) for x in (image, target))
        raise ImageError(f"pair {pair.name!r} | input and target have {sizes} pixels")
    restored = stage.restore(Sample(pair.name, image), self_ensemble=conventions.self_ensemble)
    if restored.shape != target.shape:
        raise ImageError(f"pair {pair.name!r} | the result has {restored.shape[:2]} pixels")
    found: Score = {}
    if "reference" in conventions.metrics:
        levels = _levels(stage, restored, conventions.rounding)
        found["psnr"] = psnr(levels, to_unit(target) * LEVELS, peak=LEVELS)
    if "paper" in conventions.metrics:
        if min(target.shape[:2]) < WINDOW:
            raise ImageError(f"pair {pair.name!r} | SSIM needs sides from {WINDOW} pixels")
        pictures = [
            _in_8_bits(values, conventions.channel, rounding)
            for values, rounding in (
                (restored, conventions.rounding or "nearest"),
                (to_unit(target), "nearest"),
            )
        ]
        found["paper_psnr"] = psnr(*pictures, peak=LEVELS)
        found["ssim"] = ssim(*pictures, peak=LEVELS)
    return found


def report_of(
    scores: Iterable[tuple[str, Score]], failed: Sequence[dict[str, str]], model: str | None
) -> dict[str, Any]:
    """Per picture, averages with their standard deviation, and the published figure, for JSON.

    Args:
        scores: by name of the picture.
        failed: `name` and `error` of each picture that could not be measured.
        model: name of the model, to find its published figure, with the data set that this is of;
            None if unknown. The pictures do not show whether they belong to that data set.
    """
    scores = list(scores)
    keys = [*scores[0][1]] if scores else []
    columns = {key: [found[key] for _, found in scores] for key in keys}
    known = PUBLISHED.get(model or "")
    published = known and {"dataset": known.dataset, "psnr": known.psnr, "ssim": known.ssim}
    return {
        "images": [
            {"name": name, **{key: json_number(value) for key, value in found.items()}}
            for name, found in scores
        ],
        "mean": {key: json_number(fmean(values)) for key, values in columns.items()},
        "std": {key: json_number(_spread(values)) for key, values in columns.items()},
        "count": len(scores),
        "published": published,
        "failed": [*failed],
    }


def _spread(values: list[float]) -> float:
    # The spread of an infinite PSNR (equal pictures) is not a number.
    return pstdev(values) if np.isfinite(values).all() else float("nan")


def _levels(stage: Stage, restored: Pixels, rounding: Rounding | None) -> Pixels:
    """The result in levels. Half a level is added to pictures that were saved truncated."""
    levels = restored * LEVELS  # as the target's, so that equal pictures have equal levels
    if isinstance(stage, Folder) and rounding != "nearest":
        levels += np.float32(0.5)
    return levels


def _in_8_bits(values: Pixels, channel: str, rounding: Rounding) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = from_unit(values, np.dtype(np.uint8), rounding)
    return luma(pixels) if channel == "y" else pixels
