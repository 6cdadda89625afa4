"""Measure the difference of two results, without judging it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import ImageError
from maxim_deploy.parity.metrics import WINDOW, psnr_of, ssim

LEVELS = 255
"""Number of 8-bit steps in [0, 1]."""

Pixels = NDArray[np.float32]
"""`[H, W, 3]`, float32; [0, 1] is black to white, values outside are possible."""


class Position(NamedTuple):
    """A value of a picture."""

    row: int
    column: int
    channel: int


@dataclass(frozen=True)
class Comparison:
    """The difference of picture A from picture B.

    Attributes:
        max_error_levels: largest absolute error in 8-bit steps of 1/255; NaN if a value is.
        mean_error_levels: mean absolute error in 8-bit steps.
        p999_error_levels: 99.9th percentile of the absolute error in 8-bit steps.
        residual_error: error relative to the network's residual: root mean square of A - B over
            that of B - input. None without an input.
        psnr: dB with a peak of 1; infinite for equal pictures.
        ssim: structural similarity; None for a picture smaller than its window.
        worst: where the largest error is, or the first value that is not finite.
        equal: share of equal values.
        values: number of compared values.
        not_finite: number of values that are NaN or infinite in either picture.
    """

    max_error_levels: float
    mean_error_levels: float
    p999_error_levels: float
    residual_error: float | None
    psnr: float
    ssim: float | None
    worst: Position
    equal: float
    values: int
    not_finite: int

    def to_json(self) -> dict[str, Any]:
        """The fields ready for JSON. Infinity and NaN become None, because JSON lacks them."""
        record = {name: json_number(getattr(self, name)) for name in self.__dataclass_fields__}
        return {**record, "worst": self.worst._asdict()}


def compare(found: Pixels, expected: Pixels, source: Pixels | None = None) -> Comparison:
    """Measure picture A against picture B, in float64.

    Args:
        found: A.
        expected: B, of the same shape.
        source: input of both, of the same shape, for the residual; None if unknown.

    Raises:
        ImageError: the shapes differ, or there is nothing to compare.
    """
    if found.shape != expected.shape:
        raise ImageError(f"pictures of {_size(found)} and {_size(expected)} cannot be compared")
    if source is not None and source.shape != expected.shape:
        raise ImageError(
            f"pictures of {_size(expected)} cannot have an input of {_size(source)} | "
            "compare them on the inputs that they were made of"
        )
    if found.size == 0:
        raise ImageError("pictures without a pixel cannot be compared")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    # Infinity minus infinity is NaN, which is counted below and needs no warning.
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b)
        residual = None if source is None else b - source
    finite = np.isfinite(error)
    if not finite.all():
        error[~finite] = math.nan  # also for infinity against infinity
    mean_square = float(np.square(error).mean())
    large_enough = min(found.shape[:2]) >= WINDOW
    return Comparison(
        max_error_levels=float(error.max()) * LEVELS,
        mean_error_levels=float(error.mean()) * LEVELS,
        p999_error_levels=float(np.quantile(error, 0.999)) * LEVELS,
        residual_error=None if residual is None else _share(mean_square, residual),
        psnr=psnr_of(mean_square, peak=1),
        ssim=(ssim(a, b, peak=1) if finite.all() else math.nan) if large_enough else None,
        # `argmax` treats the first NaN as the largest value, which is the position to show.
        worst=Position(*map(int, np.unravel_index(error.argmax(), error.shape))),
        equal=float((error == 0).mean()),
        values=error.size,
        not_finite=int(np.size(finite) - finite.sum()),
    )


def error_map(found: Pixels, expected: Pixels, full_scale: float) -> NDArray[np.uint8]:
    """A picture of the absolute error: black for none, white from `full_scale` levels on.

    Args:
        found: A.
        expected: B, of the same shape.
        full_scale: in 8-bit steps; more than 0.

    Returns:
        `[H, W, 3]`; what is not finite is pure red.
    """
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64) - expected) * LEVELS
    # The uint8 value of NaN depends on the processor, so it is painted below.
    picture = np.rint(np.nan_to_num(np.clip(error / full_scale, 0, 1)) * LEVELS).astype(np.uint8)
    picture[~np.isfinite(error).all(axis=2)] = (255, 0, 0)
    return picture


def json_number(value: Any) -> Any:
    """A number ready for JSON; None if it is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _share(mean_square: float, residual: NDArray[np.float64]) -> float:
    whole = float(np.square(residual).mean())
    if whole == 0:
        return 0.0 if mean_square == 0 else math.inf
    return math.sqrt(mean_square / whole)


def _size(picture: Pixels) -> str:
    return "x".join(map(str, picture.shape))
