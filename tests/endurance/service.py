"""Random calls, cancels, deadlines and garbage from many threads; nothing may be lost or left.

    python tests/endurance/service.py BUNDLE [--operations 10000] [--threads 16] [--seed 0]
        [--backend openvino]

Each result is compared with what the picture gives alone. At the end every future is done, nothing
is under way, and threads, open files and memory are what they were after the first hundred.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maxim_deploy import (
    CancelledError,
    DeadlineError,
    QueueFullError,
    Restoration,
    Restorer,
    UsageError,
    load,
)
from maxim_deploy.machine.memory import resident_bytes

PATIENCE_S = 120
"""Longer than anything waits: what takes longer is a deadlock."""

SIZES = ((64, 64), (37, 90), (128, 128), (1, 1), (100, 140), (200, 140))

GARBAGE: tuple[Any, ...] = (
    None,
    "a picture",
    np.zeros((4, 4), np.uint8),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.float64),
    np.full((4, 4, 3), np.nan, np.float32),
)

ENDINGS = (CancelledError, DeadlineError)


@dataclass
class Endurance:
    """Operations on one restorer.

    Attributes:
        counts: how many of each have ended how.
        faults: what must not be, in words.
    """

    restorer: Restorer
    tolerance: float
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(0)
        self._pictures = [generator.random((*size, 3), np.float32) for size in SIZES]
        self._alone = [self.restorer(picture) for picture in self._pictures]
        self._lock = threading.Lock()

    def run(self, operations: int, threads: int, seed: int) -> None:
        """So many operations in so many threads."""
        each = [operations // threads + (k < operations % threads) for k in range(threads)]
        workers = [
            threading.Thread(target=self._work, args=(count, random.Random(seed * 1000 + k)))
            for k, count in enumerate(each)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        # A task of asyncio that is cancelled does not wait for its picture's end.
        limit = time.monotonic() + PATIENCE_S
        while self.restorer._admission._ends and time.monotonic() < limit:
            time.sleep(0.01)
        work = self.restorer._work
        left = {
            "calls under way": self.restorer._admission._ends,
            "deadlines": self.restorer._due,
            "running turns": work._turns._running + work._long_turns._running,
            "waiting turns": work._turns._waiting + work._long_turns._waiting,
            "reservations": work._memory._reserved,
        }
        self.faults += [f"{len(there)} {what} are left" for what, there in left.items() if there]

    def _work(self, count: int, chance: random.Random) -> None:
        kinds: list[Callable[[random.Random], str]] = [
            *(self._call, self._batch, self._submit, self._cancel, self._deadline),
            *(self._garbage, self._await, self._trim),
        ]
        for _ in range(count):
            kind = chance.choice(kinds)
            try:
                ending = kind(chance)
            except QueueFullError:
                ending = "queue full"
            except BaseException as error:  # whatever it is, the others go on
                ending = "fault"
                self.faults.append(f"{kind.__name__} | {type(error).__name__}: {error}")
            with self._lock:
                self.counts[f"{kind.__name__[1:]}: {ending}"] += 1

    def _picture(self, chance: random.Random) -> int:
        return chance.randrange(len(SIZES))

    def _check(self, k: int, restored: Any) -> str:
        if restored.shape != self._alone[k].shape:
            self.faults.append(f"{SIZES[k]} came back as {restored.shape}")
        elif (error := float(np.abs(restored - self._alone[k]).max())) > self.tolerance:
            self.faults.append(f"{SIZES[k]} differs by {error:.2g} from what it gives alone")
        return "restored"

    def _ended(self, k: int, future: Restoration[Any]) -> str:
        try:
            restored = future.result(PATIENCE_S)
        except ENDINGS as error:
            return type(error).__name__
        return self._check(k, restored)

    def _call(self, chance: random.Random) -> str:
        k = self._picture(chance)
        ensemble = chance.random() < 0.05
        restored = self.restorer(self._pictures[k], self_ensemble=ensemble)
        return "ensemble" if ensemble else self._check(k, restored)

    def _batch(self, chance: random.Random) -> str:
        chosen = [self._picture(chance) for _ in range(chance.randrange(4))]
        restored = self.restorer.batch([self._pictures[k] for k in chosen])
        for k, one in zip(chosen, restored, strict=True):
            self._check(k, one)
        return "restored"

    def _submit(self, chance: random.Random) -> str:
        told: list[int] = []
        k = self._picture(chance)
        progress = lambda one: told.append(one.done)  # noqa: E731
        ending = self._ended(k, self.restorer.submit(self._pictures[k], progress=progress))
        if not told:
            self.faults.append("no progress was told")
        return ending

    def _cancel(self, chance: random.Random) -> str:
        k, called = self._picture(chance), list[object]()
        future = self.restorer.submit(self._pictures[k], self_ensemble=chance.random() < 0.2)
        future.add_done_callback(called.append)
        time.sleep(chance.choice((0, 0, 0.001, 0.01, 0.1)))
        cancelled = future.cancel()
        try:
            future.result(PATIENCE_S)
        except CancelledError:
            pass
        else:
            if cancelled:
                self.faults.append("a cancelled picture has a result")
        if called != [future]:
            self.faults.append(f"{len(called)} callbacks were called of one")
        return "cancelled" if cancelled else "too late"

    def _deadline(self, chance: random.Random) -> str:
        k = self._picture(chance)
        timeout = chance.choice((-1, 0, 0.0005, 0.005, 0.05, 0.5, 3600))
        return self._ended(k, self.restorer.submit(self._pictures[k], timeout=timeout))

    def _garbage(self, chance: random.Random) -> str:
        image = chance.choice(GARBAGE)
        for call in (self.restorer, lambda image: self.restorer.submit(image).result(PATIENCE_S)):
            try:
                call(image)
            except UsageError:
                continue
            self.faults.append(f"{image!r} was restored")
        return "refused"

    def _await(self, chance: random.Random) -> str:
        k = self._picture(chance)

        async def restored() -> Any:
            return await asyncio.wrap_future(self.restorer.submit(self._pictures[k]))

        async def main() -> str:
            try:
                waiting = asyncio.wait_for(restored(), chance.choice((0.001, 0.05, PATIENCE_S)))
                return self._check(k, await waiting)
            except TimeoutError:
                return "timed out"

        return asyncio.run(main())

    def _trim(self, chance: random.Random) -> str:
        self.restorer.plan(*chance.choice(SIZES))
        self.restorer.trim()
        return "trimmed"


def open_files() -> int:
    """Of this process."""
    listed = Path("/proc/self/fd")
    return len([*listed.iterdir()]) if listed.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="auto")
    asked = parser.parse_args()
    faulthandler.dump_traceback_later(3600, exit=True)
    at_start = threading.active_count()
    with load(asked.bundle, backend=asked.backend, queue=2 * asked.threads, tile=128) as restorer:
        endurance = Endurance(restorer, tolerance=1e-4)
        endurance.run(100, asked.threads, asked.seed + 1)
        before = resident_bytes(), open_files(), threading.active_count()
        endurance.run(asked.operations, asked.threads, asked.seed)
        restorer.trim()
        after = resident_bytes(), open_files(), threading.active_count()
    names = ("resident bytes", "open files", "threads")
    for name, was, now in zip(names, before, after, strict=True):
        print(f"{name}: {was} before, {now} after")
    for what, count in sorted(endurance.counts.items()):
        print(f"{count:6} {what}")
    # A tenth more is what the allocator keeps for threads that have come and gone.
    leaks = after[0] > 1.1 * before[0] + 20_000_000 or after[1:] != before[1:]
    left = threading.active_count() - at_start
    faults = [*endurance.faults, *["it leaks"] * leaks, *["threads are left"] * bool(left)]
    for fault in faults[:20]:
        print(f"fault: {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
