"""A process of its own for each subject that is measured.

One process per subject keeps the subjects out of each other's way: no shared thread pool, no
shared allocator, and the peak memory is the subject's alone. `python -m
maxim_deploy.benchmarks.worker ENGINE FILE THREADS HEIGHT WIDTH` loads the subject and answers lines
on stdin with lines of JSON on stdout:

- at once: `library`; `baseline_bytes`, resident once loaded, with the input in memory
- "run": `seconds` of wall time from array to array, nothing else inside the bracket; `idle_cpu_s`,
  processor time that the process used since its last run; `peak_bytes` so far
- "save FILE": the result of the last run as .npy, and `{}`
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._memory import peak_resident_bytes, resident_bytes
from maxim_deploy.benchmarks.timing import stopwatch
from maxim_deploy.errors import BackendError

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Worker:
    """The parent's end: starts the process, asks it to run, and ends it on leaving the block.

    Args:
        engine: "pytorch" (`file`: safetensors) or "onnxruntime" (`file`: a graph).
        file: what to load.
        threads: of the engine.
        size: height and width of the image that it runs on.

    Raises:
        BackendError: the subject cannot be loaded.
    """

    def __init__(self, engine: str, file: Path, threads: int, size: tuple[int, int]) -> None:
        self._name = f"{engine} on {file.name}"
        arguments = [engine, str(file), str(threads), str(size[0]), str(size[1])]
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", "maxim_deploy.benchmarks.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.idle_cpu_s = 0.0
        """The most processor time used between two runs."""
        self.loaded = self._answer()

    def run(self) -> float:
        """Run once; seconds of wall time."""
        answer = self._ask("run")
        self.idle_cpu_s = max(self.idle_cpu_s, answer["idle_cpu_s"])
        return float(answer["seconds"])

    def memory(self) -> dict[str, int]:
        """Run once; `baseline_bytes` before and `peak_bytes` after, of the whole process."""
        peak = int(self._ask("run")["peak_bytes"])
        return {"baseline_bytes": int(self.loaded["baseline_bytes"]), "peak_bytes": peak}

    def save(self, file: Path) -> None:
        """Write the result of the last run as .npy."""
        self._ask(f"save {file}")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise BackendError(f"{self._name} ended early with {code}; its own words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()


def serve(engine: str, file: Path, threads: int, size: tuple[int, int]) -> None:
    """The worker's end: load, then answer until stdin ends."""
    image = np.random.default_rng(0).random((1, 3, *size), np.float32)
    run, library = ENGINES[engine](file, threads)
    result = image
    _say(library=library, baseline_bytes=resident_bytes())

    def once() -> None:
        nonlocal result
        result = run(image)

    measure = stopwatch(once)
    rested = time.process_time()
    for line in sys.stdin:
        command, _, argument = line.rstrip("\n").partition(" ")
        if command == "save":
            np.save(argument, result)
            _say()
            continue
        idle = time.process_time() - rested
        seconds = measure()
        rested = time.process_time()
        _say(seconds=seconds, idle_cpu_s=idle, peak_bytes=peak_resident_bytes())


def _pytorch(file: Path, threads: int) -> tuple[Run, str]:
    import torch

    from maxim_deploy.checkpoints import read_checkpoint
    from maxim_deploy.model import module_from_checkpoint

    torch.set_num_threads(threads)
    module = module_from_checkpoint(read_checkpoint(file))

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            restored: NDArray[np.float32] = module(torch.from_numpy(image)).numpy()
        return restored

    return run, f"torch {torch.__version__}"


def _onnxruntime(file: Path, threads: int) -> tuple[Run, str]:
    from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu

    backend = OnnxRuntimeCpu(file, threads)
    return backend.run, backend.library


ENGINES: dict[str, Callable[[Path, int], tuple[Run, str]]] = {
    "onnxruntime": _onnxruntime,
    "pytorch": _pytorch,
}


def _say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), (int(sys.argv[4]), int(sys.argv[5])))
