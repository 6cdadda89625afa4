"""Two processes replace a bundle again and again, beside readers and one that looks for its name.

    PYTHONPATH=tests python -m endurance.replacements --seed 1 --range 0:1000 [--readers 4]

prints a line of JSON with counts; `--add FILE...` adds lines up. `--killed 0.5` kills about half of
the replacements at any moment. `--without-exchange` takes the way
of systems that cannot exchange two names: there the name may be missing for a moment, readers wait.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from endurance.kills import child, killed_after
from endurance.work import FACTORS, emptied, export, wrong_graph

from maxim_deploy import _folders
from maxim_deploy.errors import MaximDeployError

FAULTS = ("wrong_graphs", "refusals", "moments_without", "failed_replacements", "leftovers")
_fork = multiprocessing.get_context("fork")


def replace(bundle: Path, seed: int, numbers: range, killed: float, told: Any) -> None:
    """Export over the bundle, one time per number; a share of them is killed."""
    counts: Counter[str] = Counter()
    usual = 0.1  # seconds of an export
    for number in numbers:
        draw = random.Random(f"{seed} {number}")
        time.sleep(draw.uniform(0, 0.02))
        name = draw.choice([*FACTORS])
        killer = killed_after(draw.uniform(0, 1.2 * usual)) if draw.random() < killed else None
        started = time.perf_counter()
        if killer:
            counts["killed"] += child(lambda name=name: export(bundle, name), killer) < 0  # type: ignore[misc]
            continue
        try:
            export(bundle, name)
            counts["replacements"] += 1
        except MaximDeployError as error:
            print(error, file=sys.stderr)
            counts["failed_replacements"] += 1
        usual = time.perf_counter() - started
    told.put(counts)


def read(bundle: Path, over: Any, told: Any) -> None:
    """Load the bundle and restore a picture until it is over."""
    counts: Counter[str] = Counter()
    while not over.is_set():
        counts["reads"] += 1
        try:
            if wrong := wrong_graph(bundle):
                print(wrong, file=sys.stderr)
                counts["wrong_graphs"] += 1
        except MaximDeployError as error:
            print(error, file=sys.stderr)
            counts["refusals"] += 1
    told.put(counts)


def look(bundle: Path, over: Any, told: Any) -> None:
    """Look for the manifest until it is over."""
    counts: Counter[str] = Counter()
    while not over.is_set():
        for _ in range(100):
            counts["looks"] += 1
            counts["moments_without"] += not (bundle / "manifest.json").exists()
        time.sleep(0.0005)
    told.put(counts)


def replaced(seed: int, numbers: range, readers: int, killed: float = 0) -> Counter[str]:
    """Counts of a range of replacements, which two processes share."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = emptied(Path(temporary, "bundles"))
        bundle, over, told = folder / "bundle", _fork.Event(), _fork.Queue()
        first = _fork.Process(target=export, args=(bundle, "half"))
        first.start()
        first.join()
        watching = [_fork.Process(target=read, args=(bundle, over, told)) for _ in range(readers)]
        watching.append(_fork.Process(target=look, args=(bundle, over, told)))
        halves = (numbers[::2], numbers[1::2])
        writing = [
            _fork.Process(target=replace, args=(bundle, seed, half, killed, told))
            for half in halves
        ]
        counts: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        for process in (*watching, *writing):
            process.start()
        for process in writing:
            process.join()
        over.set()
        for _ in (*watching, *writing):
            counts.update(told.get(timeout=60))
        for process in watching:
            process.join()
        last = _fork.Process(target=export, args=(bundle, "half"))  # clears up after those killed
        last.start()
        last.join()
        counts["leftovers"] += len([*folder.iterdir()]) - 1
    return counts


def without_exchange() -> None:
    """From now on, this system cannot exchange two names."""

    def refuse(first: Path, second: Path) -> None:
        raise OSError("not on this system")

    _folders.exchange = refuse  # type: ignore[attr-defined,assignment]


def main() -> int:
    """Replacements `start` to `stop` of a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--range", default="0:20")
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--killed", type=float, default=0)
    parser.add_argument("--without-exchange", action="store_true")
    parser.add_argument("--add", nargs="+", type=Path)
    options = parser.parse_args()
    counts: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
    if options.without_exchange:
        without_exchange()
    if options.add:
        for line in (line for file in options.add for line in file.read_text().splitlines()):
            counts.update(json.loads(line))
    else:
        numbers = range(*map(int, options.range.split(":")))
        counts.update(replaced(options.seed, numbers, options.readers, options.killed))
    print(json.dumps(counts))
    promised = set(FAULTS) - ({"moments_without"} if options.without_exchange else set())
    return int(any(counts[fault] for fault in promised))


if __name__ == "__main__":
    sys.exit(main())
