"""Shards on one machine against one process: the wall time of whole commands, in turns.

    PYTHONPATH=tests python -m endurance.shard_speed BUNDLE --size 128x128 --count 200 --rounds 5

Two shards with one processor and one thread each, as batch systems would start them, restore the
same pictures as one process with `--lanes 1` and one with `--lanes auto`, on the same processors.
Prints a line of JSON: seconds of each round, and how many times as fast the shards were, as medians
of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

COMMAND = [sys.executable, "-m", "maxim_deploy", "run", "--quiet"]


def seconds(folder: Path, bundle: Path, parts: Sequence[tuple[set[int], list[str]]]) -> float:
    """Wall time of commands side by side, each on processors of its own."""
    out = tempfile.mkdtemp(dir=folder)
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            [*COMMAND, str(bundle), str(folder / "in"), "-o", out, *options],
            stdout=subprocess.DEVNULL,
            preexec_fn=partial(os.sched_setaffinity, 0, allowed),
        )
        for allowed, options in parts
    ]
    assert [process.wait() for process in running] == [0] * len(running)
    taken = time.perf_counter() - started
    made = len([*Path(out).glob("*.png")])
    assert made == len([*(folder / "in").iterdir()]), made
    return taken


def pictures(folder: Path, size: tuple[int, int], count: int) -> None:
    """So many pictures of noise."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)


def main() -> int:
    """Rounds of the three, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    processors = sorted(os.sched_getaffinity(0))[:2]
    ways = {
        "shards": [
            ({one}, ["--threads", "1", "--shard", f"{k}/2"]) for k, one in enumerate(processors)
        ],
        "lanes 1": [({*processors}, ["--lanes", "1"])],
        "lanes auto": [({*processors}, ["--lanes", "auto"])],
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder, "in"), (height, width), options.count)
        seconds(Path(folder), options.bundle, ways["lanes auto"])  # measures lanes, and keeps them
        for number in range(options.rounds):
            order = [*ways] if number % 2 else [*reversed(ways)]
            for name in order:
                taken[name].append(seconds(Path(folder), options.bundle, ways[name]))
    record = {
        "size": options.size,
        "count": options.count,
        "seconds": {name: [round(one, 2) for one in each] for name, each in taken.items()},
        "load": os.getloadavg()[0],
    }
    for name in ("lanes 1", "lanes auto"):
        pairs = zip(taken[name], taken["shards"], strict=True)
        record[f"times {name}"] = round(median(one / shards for one, shards in pairs), 3)
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
