"""Expected times of runs from measurements. Without measurements there is no estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from maxim_deploy.runtime.batching import ORIENTATIONS
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.speeds import Speed


def seconds_of(
    plan: Plan, speeds: Sequence[Speed], threads: int, *, lanes: int = 1
) -> float | None:
    """Seconds per image of a plan; None without measurements for these lanes and threads.

    Args:
        plan: plan of an image.
        speeds: measurements, the oldest first.
        threads: total threads of all lanes.
        lanes: runs at a time.
    """
    runs = plan.tiles if plan.tiles > 1 else 1
    height, width = plan.tile or plan.padded
    one = seconds_per_run(height * width, speeds, threads, lanes=lanes)
    orientations = ORIENTATIONS if plan.self_ensemble else 1
    return None if one is None else runs * orientations * one


def seconds_per_run(
    pixels: int, speeds: Sequence[Speed], threads: int, *, lanes: int = 1
) -> float | None:
    """Seconds of an image of this many padded pixels. Arguments are those of `seconds_of`.

    The time per pixel is interpolated over the logarithm of the pixels, and constant beyond the
    ends. It grows by a third from 256x256 to 1024x1024, because tensors exceed the processor's
    cache.
    """
    of_these = [one for one in speeds if (one.lanes, one.threads) == (lanes, threads)]
    # Prefer measurements without other load, because the load of the run is unknown.
    chosen = [one for one in of_these if not one.is_shared] or of_these
    # The newest of each size counts.
    rates = {one.pixels: one.seconds / one.pixels for one in chosen}
    if not rates:
        return None
    points = sorted(rates.items())
    within = min(max(pixels, points[0][0]), points[-1][0])
    rate = rates.get(within)
    for (low, less), (high, more) in pairwise(points):
        if low < within < high:
            share = math.log(within / low) / math.log(high / low)
            rate = less + (more - less) * share
    assert rate is not None
    return rate * pixels
