"""How much memory a run takes, measured in a process of its own.

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
"""As far as this a run's memory is no line."""

_LEAST_HEAP, _MOST_HEAP = 128 * 1024, 32 * 1024**2
"""Between these is the size from which on glibc asks the system for a block, rather than taking it
from its heap; where, depends on what the process freed before. Runs of some graphs in float16 take
12 % less with the most than with the least, at any size, and those in float32 the same."""

_LARGE = ((384, 512), (448, 576))
"""Two, for the arena cuts its blocks differently from size to size. Seen at other sizes: up to 5 %
more or less than the mean of these two."""


def measured_run_memory(graph: Path, *, in_file_order: bool = False) -> RunMemory | None:
    """From runs at small sizes and two large ones; None where nobody can tell.

    It is the middle between the least and the most that a run takes, by what ran before.

    Args:
        graph: of the tensor form.
        in_file_order: as of `cpu_session`.

    Raises:
        BackendError: the graph does not run.
    """
    # Nowhere else can a process begin its peak anew, so that loading would be measured with it.
    if sys.platform != "linux":
        return None
    measure = partial(_measured, graph, in_file_order=in_file_order)
    # Three runs each: the second and third find other blocks in the arena than the first.
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
    """Bytes that runs add to this process at their peak, after each of them.

    Those after the first find other blocks in the arena than it did, and may need one more: 15 %
    more for the demo model in float32, from then on. The process must not have been larger before.
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
