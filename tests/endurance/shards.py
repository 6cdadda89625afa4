"""Two shards of a folder, killed at any moment and started again until all is done.

    PYTHONPATH=tests python -m endurance.shards --seed 1 --kills 50

prints a line of JSON with counts. Each shard is a process of `restore_files` with `resume`, whose
network inverts and writes down each picture that it gets. Whenever one is killed, its records are
read: what they name must never come into a network again. What has come into one and is in no
record was on its way, and that must be few.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from endurance.work import emptied
from inverter import Inverter
from PIL import Image

from maxim_deploy import restore_files
from maxim_deploy.jobs.shards import Shard

SHARDS = 2
IN_FLIGHT = 3
"""Pictures on their way in a process: one in the network, one restored, one being written."""
FAULTS = ("lost", "wrong", "recorded_and_again", "too_many_on_their_way", "failed")


class Noting(Inverter):
    """Writes down the number of each picture that it gets, and takes a while."""

    def __init__(self, log: Path, draw: random.Random) -> None:
        super().__init__()
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.on_image = lambda image: os.write(self._log, f"{number_of(image)}\n".encode())
        self.on_call = lambda _: time.sleep(draw.uniform(0, 0.006))


def number_of(image: Any) -> int:
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


class Shards:
    """The shards of one folder, their processes, and what they have done."""

    def __init__(
        self, folder: Path, pictures: int, draw: random.Random, counts: Counter[str]
    ) -> None:
        self._folder, self._draw, self._counts = folder, draw, counts
        self._pictures = {*range(pictures)}
        self._log = folder / "log"
        self._log.touch()
        for number in self._pictures:
            colour = (number % 256, number // 256, 0)
            path = folder / f"in/{number % 5}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), colour).save(path)
        self.running: dict[int, int] = {}
        self._done = set[int]()
        self._recorded: list[tuple[set[int], int]] = []

    @property
    def is_done(self) -> bool:
        return len(self._done) == SHARDS

    def start(self) -> None:
        """Start every shard that neither runs nor is done."""
        for index in range(SHARDS):
            if index not in self._done and index not in self.running:
                self.running[index] = self._fork(index)

    def _fork(self, index: int) -> int:
        seed = self._draw.random()
        process = os.fork()
        if process:
            return process
        try:
            os._exit(self._restore(Shard(index, SHARDS), random.Random(seed)))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)

    def _restore(self, shard: Shard, draw: random.Random) -> int:
        network: Any = Noting(self._log, draw)
        results = restore_files(
            network,
            [self._folder / "in"],
            self._folder / "out",
            recursive=True,
            shard=shard,
            resume=True,
        )
        return int(any(result.error for result in results))

    def wait(self, calls: float) -> None:
        """Let them work until so many pictures more are in a network, or all ends by itself."""
        enough = len(self.calls()) + calls
        while len(self.calls()) < enough and self.running:
            for index, process in [*self.running.items()]:
                if os.waitpid(process, os.WNOHANG)[0]:
                    self._end(index, 0)
            time.sleep(0.001)

    def kill(self, indexes: list[int]) -> None:
        """Kill some of them, and look at what each has left."""
        for index in indexes:
            os.kill(self.running[index], signal.SIGKILL)
        for index in indexes:
            status = os.waitstatus_to_exitcode(os.waitpid(self.running[index], 0)[1])
            self._end(index, status)
            if status == -signal.SIGKILL:
                self._look(index)
        self._counts["wrong"] += len(self.wrong())

    def _look(self, index: int) -> None:
        """Into the records of a shard that was just killed."""
        shard, calls = Shard(index, SHARDS), self.calls()
        recorded = self._recorded_by(shard)
        own = {one for one in calls if shard.takes(f"{one % 5}/{one}.png")}
        self._recorded.append((recorded, len(calls)))
        self._counts["kills"] += 1
        self._counts["too_many_on_their_way"] += len(own - recorded) > IN_FLIGHT

    def _end(self, index: int, status: int) -> None:
        del self.running[index]
        if status == -signal.SIGKILL:
            return
        self._done.add(index)
        self._counts["failed"] += status != 0

    def _recorded_by(self, shard: Shard) -> set[int]:
        names: set[int] = set()
        for path in (self._folder / "out").rglob(f".maxim-run.{shard}.jsonl"):
            for line in path.read_bytes().splitlines():
                try:
                    names |= {int(Path(name).stem) for name in json.loads(line)["outputs"]}
                except ValueError:
                    continue  # torn by a kill
        return names

    def recorded_and_again(self) -> int:
        """Pictures that were recorded when their shard was killed, and restored again."""
        calls = self.calls()
        return sum(len(recorded & {*calls[at:]}) for recorded, at in self._recorded)

    def calls(self) -> list[int]:
        """The pictures that came into the network, in order."""
        return [int(line) for line in self._log.read_text().splitlines()]

    def wrong(self) -> list[str]:
        """Results under their final names that are not what they should be."""
        paths = (self._folder / "out").rglob("[0-9]*.png")
        return [path.name for path in paths if not _is_right(path)]

    def lost(self) -> set[int]:
        """Pictures without a result."""
        made = (self._folder / "out").rglob("[0-9]*.png")
        return self._pictures - {int(path.stem) for path in made}


def _is_right(path: Path) -> bool:
    try:
        pixels = np.asarray(Image.open(path))
    except OSError:
        return False
    return number_of(255 - pixels) == int(path.stem)


def one_folder(shards: Shards, draw: random.Random, kills: int, counts: Counter[str]) -> None:
    """Restore a folder, with so many kills if it lasts so long."""
    killed = 0
    while not shards.is_done:
        shards.start()
        shards.wait(draw.randint(1, 25) if killed < kills else math.inf)
        time.sleep(draw.uniform(0, 0.02))
        if killed < kills and shards.running:
            chosen = draw.sample(sorted(shards.running), draw.randint(1, len(shards.running)))
            shards.kill(chosen)
            killed += len(chosen)
    calls = shards.calls()
    counts["pictures"] += len({*calls})
    counts["again"] += len(calls) - len({*calls})
    counts["recorded_and_again"] += shards.recorded_and_again()
    counts["lost"] += len(shards.lost())
    counts["wrong"] += len(shards.wrong())


def main() -> int:
    """So many kills, over as many folders as it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pictures", type=int, default=400, help="in a folder")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    counts: Counter[str] = Counter(dict.fromkeys((*FAULTS, "kills", "again"), 0))
    with tempfile.TemporaryDirectory() as folder:
        while counts["kills"] < options.kills:
            left = options.kills - counts["kills"]
            shards = Shards(emptied(Path(folder, "shards")), options.pictures, draw, counts)
            one_folder(shards, draw, left, counts)
            counts["folders"] += 1
    print(json.dumps(counts))
    return int(any(counts[fault] for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
