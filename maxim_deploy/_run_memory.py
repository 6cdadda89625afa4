"""How much memory a run takes, measured in a process of its own.

`python -m maxim_deploy._run_memory GRAPH HEIGHT WIDTH` runs a graph of the tensor form once, with
ONNX Runtime on the CPU, and prints the bytes that this added to the process.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from maxim_deploy._memory import peak_resident_bytes, resident_bytes
from maxim_deploy._onnxruntime import cpu_session
from maxim_deploy.errors import BackendError

_SMALL = (128, 128)
_LARGE = ((384, 512), (448, 576))
"""Two, for the arena cuts its blocks differently from size to size. Seen at other sizes: up to 5 %
more or less than the mean of these two."""


class RunMemory(NamedTuple):
    """What a run takes: so much whatever its size, and so much for each padded pixel."""

    fixed_bytes: int
    bytes_per_pixel: float

    def bytes_for(self, pixels: int) -> int:
        """Of a run on so many padded pixels."""
        return round(self.fixed_bytes + pixels * self.bytes_per_pixel)


def measured_run_memory(graph: Path) -> RunMemory | None:
    """The line through a small run and the mean of two large ones; None where nobody can tell.

    Raises:
        BackendError: the graph does not run.
    """
    if sys.platform != "linux":
        return None
    small, pixels = _measured(graph, *_SMALL), math.prod(_SMALL)
    slopes = [(_measured(graph, *size) - small) / (math.prod(size) - pixels) for size in _LARGE]
    per_pixel = round(fmean(slopes), 1)
    return RunMemory(max(0, round(small - pixels * per_pixel)), per_pixel)


def _measured(graph: Path, height: int, width: int) -> int:
    command = [sys.executable, "-m", __name__, str(graph), str(height), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BackendError(f"measuring the memory of {graph.name} failed: {done.stderr.strip()}")
    return int(done.stdout)


def run_memory(graph: Path, height: int, width: int) -> int:
    """Bytes that a run adds to this process, which must not have been larger before."""
    session = cpu_session(graph)
    image = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    before = resident_bytes()
    session.run(["restored"], {"image": image})
    return peak_resident_bytes() - before


if __name__ == "__main__":
    print(run_memory(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))  # noqa: T201
