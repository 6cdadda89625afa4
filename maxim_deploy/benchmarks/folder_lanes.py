"""The gain of lanes for a folder of pictures, alone and beside a busy process.

This is `maxim-bench --lanes`. Two subjects restore the same folder in turns, files included, in
this process. One has a single lane with all threads spinning, as before lanes existed. The other
has the lanes that `load` and `restore_files` choose.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from maxim_deploy.benchmarks.timing import Ratio, interleaved, ratio
from maxim_deploy.errors import BackendError
from maxim_deploy.imaging.files import write_image
from maxim_deploy.jobs.restore import restore_files
from maxim_deploy.machine.memory import forget_peak, peak_resident_bytes, resident_bytes
from maxim_deploy.machine.processes import python_process
from maxim_deploy.runtime import Restorer, load

SIZE, COUNT, ROUNDS = (384, 512), 20, 7

SETTLE_S = 1.0
"""Seconds until a started process is busy."""


@dataclass(frozen=True)
class LaneGain:
    """The gain of lanes over one run at a time.

    Attributes:
        is_busy: whether another process used a processor at the same time.
        lanes: the chosen number of lanes.
        spinning: whether their threads wait in a loop.
        gain: ratio of pictures per second, with lanes over without.
        per_s: median of pictures per second with lanes.
        bytes: peak memory of the process, beyond its memory after loading.
        planned_bytes: planned memory of the runs and of the waiting pictures.
    """

    is_busy: bool
    lanes: int
    spinning: bool
    gain: Ratio
    per_s: float
    bytes: int
    planned_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The object of a line of `maxim-bench --lanes --json`."""
        return asdict(self)

    def __str__(self) -> str:
        where = "beside a busy process" if self.is_busy else "alone"
        return (
            f"- {where}: {self.lanes} lanes, {self.per_s:.3g} pictures per second, "
            f"{self.gain} times those of one run at a time; {self.bytes / 1e6:.0f} MB of "
            f"{self.planned_bytes / 1e6:.0f} MB planned"
        )


def gain_of_lanes(
    bundle: Path,
    size: tuple[int, int],
    count: int,
    rounds: int,
    threads: int | None = None,
    *,
    is_busy: bool,
    progress: Callable[[str], object] = lambda _: None,
) -> LaneGain:
    """Restore a folder in turns.

    Args:
        bundle: bundle to run on the CPU.
        size: height and width of the pictures.
        count: number of pictures.
        rounds: rounds of each subject.
        threads: CPU threads; None for one per core.
        is_busy: start a process that keeps one processor busy.
        progress: called with each step in words.

    Raises:
        MaximDeployError: the bundle cannot be opened or run.
    """
    with tempfile.TemporaryDirectory() as folder, _busy(is_busy):
        source = _pictures(Path(folder) / "in", size, count)
        # Lanes are chosen while the other process is busy, as for a user.
        options: dict[str, Any] = {"backend": "onnxruntime", "threads": threads}
        with (
            load(bundle, lanes=1, spinning=True, **options) as before,
            load(bundle, **options) as now,
        ):
            progress(f"choosing lanes{' beside a busy process' if is_busy else ''}")
            lanes = now.choose_lanes(*size)
            planned = now.plan(*size).lanes_bytes + _waiting_bytes(size, lanes)
            subjects = {"before": before, "now": now}
            target = Path(folder) / "out"
            turns = {
                name: partial(_seconds, one, source, target, count)
                for name, one in subjects.items()
            }
            for turn in turns.values():
                turn()
            progress(f"timing {rounds} rounds of {count} pictures")
            found = interleaved(turns, rounds=rounds, longest_s=math.inf)
            before.trim()
            now.trim()
            resident = resident_bytes()
            forget_peak()
            turns["now"]()
            taken = peak_resident_bytes() - resident
            gain = ratio(found["before"], found["now"])
            spinning = bool(getattr(now._work.require_open(), "spinning", True))
    per_s = count / median(found["now"])
    return LaneGain(is_busy, lanes, spinning, gain, per_s, taken, planned)


def _waiting_bytes(size: tuple[int, int], lanes: int) -> int:
    """Memory of the pictures before and after the network: 8 bits in and out, and the files."""
    return (lanes + 3) * 10 * 3 * size[0] * size[1]


def _pictures(folder: Path, size: tuple[int, int], count: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        # Smooth with some noise, so that files take as long to read and write as photographs.
        rows, columns = np.mgrid[: size[0], : size[1]]
        base = 110 + 60 * np.sin(rows / 37 + number)[..., None] + columns[..., None] / 20
        noisy = base + random.normal(0, 8, (*size, 3))
        write_image(folder / f"{number:03}.png", noisy.clip(0, 255).astype(np.uint8))
    return folder


def _seconds(restorer: Restorer, source: Path, target: Path, count: int) -> float:
    began = time.perf_counter()
    done = [result for result in restore_files(restorer, source, target) if result.error is None]
    if len(done) != count:
        raise BackendError(f"{count - len(done)} of {count} pictures were not restored")
    return time.perf_counter() - began


@contextmanager
def _busy(is_busy: bool) -> Iterator[None]:
    """Run another process within the block that keeps one processor busy."""
    if not is_busy:
        yield
        return
    command = python_process("-c", "while True: pass")
    process = subprocess.Popen(**command)
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        process.kill()
        process.wait()
