"""Measure the memory of a run in a process of its own.

`python -m maxim_deploy.machine.run_memory GRAPH HEIGHT WIDTH RUNS [IN_FILE_ORDER]` runs a graph of
the tensor form, with ONNX Runtime on the CPU, and prints the bytes that this had added to the
process after each run. IN_FILE_ORDER is 0 or 1.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np

from maxim_deploy.errors import BackendError
from maxim_deploy.machine.memory import forget_peak, peak_resident_bytes, resident_bytes
from maxim_deploy.machine.onnxruntime import cpu_session
from maxim_deploy.machine.processes import how_it_ended, python_process
from maxim_deploy.spec.run_memory import RunMemory

_SMALL = ((64, 64), (128, 128), (192, 192), (256, 256))
"""Up to this size memory is not linear in pixels, so it is interpolated."""

_LEAST_HEAP, _MOST_HEAP = 128 * 1024, 32 * 1024**2
"""Bounds of glibc's threshold above which it requests a block from the system rather than from its
heap. The threshold depends on what the process freed before. Runs of some float16 graphs take 12 %
less with the upper bound than with the lower, at any size. Runs in float32 do not differ."""

_LARGE = ((384, 512), (448, 576))
"""Two sizes, because the arena splits its blocks differently for each size. Other sizes took up to
5 % more or less than the mean of both."""


def measured_run_memory(graph: Path, *, in_file_order: bool = False) -> RunMemory | None:
    """Measure runs at small sizes and two large ones; None on systems where that is not possible.

    The value is the middle of the range that a run takes, which depends on earlier runs.

    Args:
        graph: of the tensor form.
        in_file_order: whether nodes run in the order of the file; see `cpu_session`.

    Raises:
        BackendError: the graph does not run.
    """
    # Other systems cannot reset the peak, so loading would be included.
    if sys.platform != "linux":
        return None
    measure = partial(_measured, graph, in_file_order=in_file_order)
    # Three runs each: the second and third find different blocks in the arena than the first.
    small = [(math.prod(size), measure(*size, 3)) for size in _SMALL]
    pixels, peaks = small[-1]
    large = [(math.prod(size), measure(*size, 1)) for size in _LARGE]
    slope = fmean((more[0] - peaks[0]) / (size - pixels) for size, more in large)
    middle = _middle(peaks + measure(*_SMALL[-1], 3, _MOST_HEAP))
    measured = [(pixels, round(_middle(one) * middle / _middle(peaks))) for pixels, one in small]
    return RunMemory(measured, round(slope * middle / peaks[0], 1))


def _middle(peaks: Sequence[int]) -> float:
    return fmean((min(peaks), max(peaks)))


def _measured(
    graph: Path,
    height: int,
    width: int,
    runs: int,
    heap: int = _LEAST_HEAP,
    *,
    in_file_order: bool = False,
) -> list[int]:
    """`run_memory` in a process of its own."""
    arguments = (graph, height, width, runs, int(in_file_order))
    command = python_process("-m", __name__, *arguments, env={"MALLOC_MMAP_THRESHOLD_": str(heap)})
    done = subprocess.run(**command, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.strip() or f"its process {how_it_ended(done.returncode)}"
        raise BackendError(f"measuring the memory of {graph.name} failed: {reason}")
    return [int(peak) for peak in done.stdout.split()]


def run_memory(
    graph: Path, height: int, width: int, runs: int, in_file_order: int = 0
) -> list[int]:
    """The bytes that runs have added to this process at their peak, after each run.

    Later runs find different blocks in the arena than the first and may need one more: 15 % more
        for the demo model in float32. The process must not have been larger before.
    """
    session = cpu_session(graph, in_file_order=bool(in_file_order))
    image = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    before, peaks = resident_bytes(), []
    forget_peak()
    for _ in range(runs):
        session.run(["restored"], {"image": image})
        peaks.append(peak_resident_bytes() - before)
    return peaks


if __name__ == "__main__":
    try:
        print(*run_memory(Path(sys.argv[1]), *map(int, sys.argv[2:])))  # noqa: T201
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        sys.exit(str(error))
