"""Times of a restorer with several pictures at a time, and estimates for larger work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.errors import UsageError
from maxim_deploy.imaging.padding import Padding
from maxim_deploy.machine.other_load import LoadWatch
from maxim_deploy.runtime import Restorer
from maxim_deploy.runtime.run_times import seconds_of
from maxim_deploy.runtime.speeds import Speed

PHOTO = (3000, 4000)
"""A photograph of 12 megapixels."""

FRAME = (1080, 1920)
"""A frame of video."""


def most_lanes(restorer: Restorer, size: tuple[int, int]) -> int:
    """Most calls at a time that threads and memory allow; 1 if the backend has fixed lanes."""
    most = restorer._work.require_open().max_lanes
    plan = restorer.plan(*size)
    return max(1, most if plan.limit is None else min(most, plan.limit // plan.bytes))


def seconds_side_by_side(
    restorer: Restorer, picture: NDArray[Any], lanes: int, least_s: float
) -> float:
    """Seconds per picture with `lanes` calls at a time, measured for at least `least_s` seconds.

    With one lane the calls follow each other, so this is also the time of a call.
    """
    if lanes != restorer.info.lanes:
        restorer._work.choose_lanes(lambda: lanes)
        # The first run may open a session and allocate memory.
        _seconds(restorer, picture, lanes, 0.0)
    return _seconds(restorer, picture, lanes, least_s)


def _seconds(restorer: Restorer, picture: NDArray[Any], lanes: int, least_s: float) -> float:
    # One caller more than lanes: otherwise a lane would wait between two pictures of its caller.
    callers = lanes + 1 if lanes > 1 else 1
    began, done = time.perf_counter(), 0

    def caller() -> int:
        own = 0
        while True:
            restorer(picture)
            own += 1
            if time.perf_counter() - began >= least_s:
                return own

    with ThreadPoolExecutor(callers) as pool:
        done = sum(call.result() for call in [pool.submit(caller) for _ in range(callers)])
    return (time.perf_counter() - began) / done


def kept_times(
    restorer: Restorer, size: tuple[int, int], seconds: Mapping[int, float]
) -> dict[str, Any]:
    """Keep times per picture for `Restorer.plan`, and estimate larger work.

    Args:
        restorer: the measured restorer.
        size: height and width of the pictures.
        seconds: seconds per picture by number of lanes.

    Returns:
        `photo_s` and `frame_s`: expected seconds of a `PHOTO` and a `FRAME` by number of lanes;
        None if so many lanes do not fit the memory. `photo` and `frame`: how each runs, in words.
    """
    backend, choice = restorer._work.require_open(), restorer._lane_choice
    padding = Padding(*size)
    is_shared = LoadWatch().is_shared()
    speeds = [
        Speed(
            padding.padded_height,
            padding.padded_width,
            lanes,
            backend.max_lanes,
            is_shared,
            found,
            getattr(backend, "spinning", True),
        )
        for lanes, found in seconds.items()
    ]
    if choice is not None:
        choice.speeds.add(speeds)
    found: dict[str, Any] = {}
    for name, sides in (("photo", PHOTO), ("frame", FRAME)):
        try:
            plan = restorer.plan(*sides)
        except UsageError as error:
            found[name], found[f"{name}_s"] = str(error), dict.fromkeys(map(str, seconds))
            continue
        found[name] = replace(plan, lanes=1).how
        fits = len(seconds) if plan.limit is None else plan.limit // plan.bytes
        found[f"{name}_s"] = {
            str(lanes): seconds_of(plan, speeds, backend.max_lanes, lanes=lanes)
            if lanes <= max(1, fits)
            else None
            for lanes in seconds
        }
    return found
