"""What is said of a list of times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from maxim_deploy.errors import UsageError

PERCENTILES = (50, 90, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of a sample, linear between its order statistics.

    R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American Statistician
    50(4), 1996, definition 7: the one of NumPy and of spreadsheets.

    Raises:
        UsageError: there are no values, or `percent` is not in [0, 100].
    """
    if not values or not 0 <= percent <= 100:
        raise UsageError(f"there is no percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def summary(times_ms: Sequence[float]) -> dict[str, float]:
    """`count`, percentiles, mean and sample standard deviation (0 of a single value)."""
    return {
        "count": len(times_ms),
        **{f"p{percent}_ms": percentile(times_ms, percent) for percent in PERCENTILES},
        "mean_ms": fmean(times_ms),
        "sd_ms": stdev(times_ms) if len(times_ms) > 1 else 0.0,
    }


def spread(values: Sequence[float]) -> float:
    """How far the middle half of the values reaches, over their median."""
    return (percentile(values, 75) - percentile(values, 25)) / percentile(values, 50)


def throughput(p50_ms: float, height: int, width: int, batch: int = 1) -> dict[str, float]:
    """Images and megapixels per second if one call after the other takes `p50_ms`."""
    images = batch * 1e3 / p50_ms
    return {"images_per_s": images, "megapixels_per_s": images * height * width / 1e6}
