"""What a `Restorer` adds to the network: time, threads, memory.

    python -m maxim_deploy.benchmarks.overhead BUNDLE [--side 512] [--rounds 15] [--soak 1000]

Markdown on stdout, progress on stderr. Linux only, for memory is read from `/proc`.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from maxim_deploy.benchmarks.timing import Ratio, interleaved, ratio, stopwatch
from maxim_deploy.errors import MaximDeployError
from maxim_deploy.machine.memory import peak_resident_bytes, resident_bytes
from maxim_deploy.runtime import Restorer, load
from maxim_deploy.runtime.batching import stack_of

THREADS = 4
WARMUP = 2
SOAK_SIZES = ((64, 64), (37, 90), (130, 70), (200, 300), (256, 256), (320, 240), (384, 300))
"""Drawn from at random; none is large, so that a thousand take minutes."""


@dataclass(frozen=True)
class Soak:
    """Resident memory in bytes: after each size ran once, the most since, and at the end."""

    begin: int
    peak: int
    end: int


def overhead(restorer: Restorer, size: tuple[int, int], rounds: int) -> tuple[Ratio, Ratio]:
    """What a call takes of what the backend takes alone, alternately, from 8 bits to 8 bits.

    Returns:
        (of one call, of the calls of four threads per call and thread).
    """
    image = _image(size)
    backend, stack = restorer._work.opened(), stack_of([image])
    pool = ThreadPoolExecutor(THREADS)
    measures = {
        "backend": stopwatch(lambda: backend.run(stack)),
        "restorer": stopwatch(lambda: restorer(image)),
        "threads": stopwatch(lambda: list(pool.map(restorer, [image] * THREADS))),
    }
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
    begin, peak = resident_bytes(), 0
    for _ in range(calls):
        image = _image(SOAK_SIZES[random.integers(len(SOAK_SIZES))])
        restorer(image if random.random() < 0.5 else (image / np.float32(255)))
        peak = max(peak, resident_bytes())
    return Soak(begin, max(peak, peak_resident_bytes()), resident_bytes())


def _image(size: tuple[int, int]) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--side", default=512, show_default=True, help="Of the image that is timed.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--soak", "calls", default=1000, show_default=True, help="Calls; 0 for none.")
def main(bundle: Path, side: int, rounds: int, calls: int) -> None:
    """Measure what a Restorer adds to its network on the CPU."""
    try:
        with load(bundle, backend="onnxruntime") as restorer:
            click.echo(f"{rounds} rounds of {side}x{side}", err=True)
            one, four = overhead(restorer, (side, side), rounds)
            click.echo(f"- Time of a call over the bare backend, {side}x{side} uint8: {one}")
            click.echo(f"- Time per image with {THREADS} threads over one: {four}")
            if calls:
                click.echo(f"{calls} calls of mixed sizes", err=True)
                memory = soak(restorer, calls)
                click.echo(
                    f"- Resident over {calls} calls of mixed sizes: {memory.begin / 1e6:.0f} MB "
                    f"before, {memory.peak / 1e6:.0f} at most, {memory.end / 1e6:.0f} after"
                )
    except MaximDeployError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
