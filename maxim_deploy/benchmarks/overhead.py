"""Overhead of a `Restorer` over the network: time, threads, memory; `maxim-bench --overhead`."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.benchmarks.timing import Ratio, interleaved, ratio, stopwatch
from maxim_deploy.machine.memory import peak_resident_bytes, resident_bytes
from maxim_deploy.runtime import Restorer
from maxim_deploy.runtime.batching import stack_from_images

THREADS = 4
SIZE, ROUNDS, CALLS = (512, 512), 15, 1000
WARMUP = 2
SOAK_SIZES = ((64, 64), (37, 90), (130, 70), (200, 300), (256, 256), (320, 240), (384, 300))
"""Sizes to draw from at random. None is large, so that a thousand calls take only minutes."""


@dataclass(frozen=True)
class Soak:
    """Resident memory in bytes: after each size ran once, its maximum since, and at the end."""

    begin: int
    peak: int
    end: int


def overhead(restorer: Restorer, size: tuple[int, int], rounds: int) -> tuple[Ratio, Ratio]:
    """Time a call and the backend alone, in alternation, with 8-bit input and output.

    Returns:
        (time of a call over the backend's time, time per call with four threads over that of one).
    """
    image = _image(size)
    backend, stack = restorer._work.require_open(), stack_from_images([image])
    pool = ThreadPoolExecutor(THREADS)
    measures = {
        "backend": stopwatch(lambda: backend.run(stack)),
        "restorer": stopwatch(lambda: restorer(image)),
        "threads": stopwatch(lambda: list(pool.map(restorer, [image] * THREADS))),
    }
    # The first calls grow arena and threads, so that the timed calls do not.
    for measure in [*measures.values()] * WARMUP:
        measure()
    seconds = interleaved(measures, rounds=rounds, longest_s=math.inf)
    pool.shutdown()
    each = [time / THREADS for time in seconds["threads"]]
    return ratio(seconds["restorer"], seconds["backend"]), ratio(each, seconds["restorer"])


def soak(restorer: Restorer, calls: int) -> Soak:
    """Call a restorer with images of mixed sizes and types, and watch its memory."""
    random = np.random.default_rng(0)
    for size in SOAK_SIZES:
        restorer(_image(size))
    # Every size has run by now, so further growth of memory is a leak.
    begin, peak = resident_bytes(), 0
    for _ in range(calls):
        image = _image(SOAK_SIZES[random.integers(len(SOAK_SIZES))])
        restorer(image if random.random() < 0.5 else (image / np.float32(255)))
        peak = max(peak, resident_bytes())
    return Soak(begin, max(peak, peak_resident_bytes()), resident_bytes())


def _image(size: tuple[int, int]) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
