"""How long a run will take, from what was measured: nothing is guessed where nothing was."""

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
    """Seconds per image as planned; None if nothing was measured with so many lanes and threads.

    Args:
        plan: of an image.
        speeds: what was measured, the oldest first.
        threads: of all lanes together.
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
    """Of one image of so many padded pixels; arguments as of `seconds_of`.

    Time per pixel lies on lines over the logarithm of the pixels, and stays beyond the ends: it
    grows by a third from 256x256 to 1024x1024, as tensors outgrow the processor's cache.
    """
    of_these = [one for one in speeds if (one.lanes, one.threads) == (lanes, threads)]
    # Those of an idle machine, where there are any: the load at the time of the run is not known.
    chosen = [one for one in of_these if not one.is_shared] or of_these
    # The last one of each size counts.
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
