"""Summaries of a list of times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PERCENTILES = (50, 90, 95, 99)


def summary(times_ms: Sequence[float]) -> dict[str, float]:
    """`count`, percentiles, mean and sample standard deviation (0 for a single value)."""
    percentiles = np.percentile(times_ms, PERCENTILES).tolist()
    return {
        "count": len(times_ms),
        **{f"p{at}_ms": value for at, value in zip(PERCENTILES, percentiles, strict=True)},
        "mean_ms": float(np.mean(times_ms)),
        "sd_ms": float(np.std(times_ms, ddof=1)) if len(times_ms) > 1 else 0.0,
    }


def spread(values: Sequence[float]) -> float:
    """Width of the middle half of the values, over their median."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return float((high - low) / middle)


def throughput(p50_ms: float, height: int, width: int, batch: int = 1) -> dict[str, float]:
    """Images and megapixels per second of consecutive calls that take `p50_ms` each."""
    images = batch * 1e3 / p50_ms
    return {"images_per_s": images, "megapixels_per_s": images * height * width / 1e6}
