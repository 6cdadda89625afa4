"""The effect of tiles on noisy photographs, against whole images; `maxim-bench --tiles`.

The bundle should be one that removes noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.padding import Padding
from maxim_deploy.imaging.tiling import Tiling
from maxim_deploy.parity.metrics import psnr
from maxim_deploy.runtime import load

TILES = (128, 256, 384, 512)
OVERLAPS = (0, 32, 64, 96, 128)
SIGMA = 25.0
"""Standard deviation of the noise, in levels of 255."""

AROUND = 8
"""Pixels on either side of a border that the border is compared with."""

HEADS = """\
| tile | overlap | dB to whole | dB to clean, tiled minus whole | step at the border / around | \
largest step / around |
| --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Step:
    """How the error (tiled minus whole) jumps from one pixel to the next, in levels of 255.

    Attributes:
        mean: mean step over all pixels of a border, at the border where it exceeds the steps
            around it most.
        mean_around: mean step of the lines around that border.
        largest: largest step of a pixel across a border, at the border where it exceeds the steps
            around it most.
        largest_around: largest step of a pixel of the lines around that border.
    """

    mean: float
    mean_around: float
    largest: float
    largest_around: float


def step_of(error: NDArray[Any], tiling: Tiling) -> Step:
    """The steps across the borders of tiles.

    Args:
        error: error of the padded image, `[H, W, 3]`, with 1.0 for 255 levels.
        tiling: tiling of the image in several tiles.
    """
    means, largest = [], []
    for axis, length in enumerate((tiling.height, tiling.width)):
        jumps = np.abs(np.diff(error, axis=axis)) * 255
        mean, most = jumps.mean(axis=(1 - axis, 2)), jumps.max(axis=(1 - axis, 2))
        ends = {end for window, _ in tiling for end in (window[axis].start, window[axis].stop)}
        # The picture's edges are borders of tiles too, but nothing lies beyond them.
        for end in ends - {0, length}:
            around = [*range(max(end - 1 - AROUND, 0), end - 1)]
            around += [*range(end, min(end + AROUND, length - 1))]
            means.append((float(mean[end - 1]), float(mean[around].mean())))
            largest.append((float(most[end - 1]), float(most[around].max())))
    return Step(*max(means, key=_excess), *max(largest, key=_excess))


def _excess(steps: tuple[float, float]) -> float:
    """Difference of the step across a border and the steps around it."""
    across, around = steps
    return across - around


@dataclass(frozen=True)
class Photo:
    """A photograph: clean, with noise, and restored whole."""

    clean: NDArray[np.float32]
    noisy: NDArray[np.float32]
    whole: NDArray[np.float32]


def photo_of(bundle: Path, path: Path, sigma: float) -> Photo:
    """Read a photograph, add noise of `sigma` levels, and restore it whole."""
    clean = read_image(path).rgb.astype(np.float32) / np.float32(255)
    noise = np.random.default_rng(0).normal(0, sigma / 255, clean.shape).astype(np.float32)
    with load(bundle, tile="off") as restorer:
        return Photo(clean, clean + noise, restorer(clean + noise))


@dataclass(frozen=True)
class TileCost:
    """Effect of tiles on a photograph.

    Attributes:
        psnr_to_whole: PSNR to the same photograph restored whole, in dB.
        psnr_gain: PSNR to the clean photograph in dB, tiled minus whole.
        step: step across the borders of the tiles.
    """

    psnr_to_whole: float
    psnr_gain: float
    step: Step


def cost_of_tiles(bundle: Path, photo: Photo, tile: int, overlap: int) -> TileCost | None:
    """Restore a photograph in tiles; None where a tile is no smaller than the photograph."""
    with load(bundle, tile=tile, overlap=overlap) as restorer:
        plan = restorer.plan(*photo.clean.shape[:2])
        if plan.tile is None:
            return None
        tiled = restorer(photo.noisy)
    error = Padding(*photo.clean.shape[:2]).apply(tiled - photo.whole)
    return TileCost(
        _quality(tiled, np.clip(photo.whole, 0, 1)),
        _quality(tiled, photo.clean) - _quality(photo.whole, photo.clean),
        step_of(error, Tiling(*plan.padded, plan.tile, plan.overlap)),
    )


def row_of(tile: int, overlap: int, costs: Sequence[TileCost | None]) -> str:
    """A row under `HEADS`, with the photographs in their order."""
    columns = [", ".join(column) for column in zip(*map(_cells, costs), strict=True)]
    return f"| {tile} | {overlap} | {' | '.join(columns)} |"


def _cells(cost: TileCost | None) -> tuple[str, ...]:
    if cost is None:
        return ("-",) * 4
    step = cost.step
    return (
        f"{cost.psnr_to_whole:.1f}",
        f"{cost.psnr_gain:+.2f}",
        f"{step.mean:.2f} / {step.mean_around:.2f}",
        f"{step.largest:.1f} / {step.largest_around:.1f}",
    )


def _quality(image: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    return psnr(np.clip(image, 0, 1), target, peak=1)
