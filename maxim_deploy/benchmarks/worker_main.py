"""The worker's side of a measurement: load a workload, then answer questions about it.

`python -m maxim_deploy.benchmarks.worker_main WORKLOAD` takes a `workload.Workload` as JSON. It
reads a line of JSON per question from stdin and writes a line per answer to stdout. All other
output to stdout goes to stderr. An answer may be `{"error": ...}` instead. The process ends after
an error of loading.

The first answer comes without a question: `library`, `device`, `io`, `brackets`; `load_s`;
`baseline_bytes`, resident memory once loaded, with the pictures in memory. The questions, with
their arguments and answers:

- `first`: run the network for the first time. `first_call_ms`; `peak_bytes` of the process so far,
  and `run_peak_bytes` without loading; `device_bytes` that loading and running took from the GPU,
  None on a CPU
- `save`, `file`: write the result of the network's last run as .npy
- `warm_up`, `bracket`, `longest_s`: `runs`, `stable`
- `turn`, `bracket`, `least_s`: `runs`, a list of [wall ms, GPU ms]; `idle_cpu_s`, processor time
  that the process used since its last answer
- `load`, and the arguments of `load.under_load`: the result of that function
- `lanes`: `most`, the number of lanes that the restorer can have with its threads
- `side_by_side`, `lanes`, `least_s`: `seconds` per picture with `lanes` calls at a time
- `keep`, `seconds` by number of lanes: keep the times for plans; the result of
  `lane_times.kept_times`
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from maxim_deploy.benchmarks.lane_times import kept_times, most_lanes, seconds_side_by_side
from maxim_deploy.benchmarks.load import under_load
from maxim_deploy.benchmarks.runners import runner_of
from maxim_deploy.benchmarks.timing import turn, warm_up
from maxim_deploy.benchmarks.workload import DEVICE, Runner, Workload
from maxim_deploy.errors import MaximDeployError
from maxim_deploy.machine.memory import forget_peak, peak_resident_bytes, resident_bytes
from maxim_deploy.runtime.cuda import open_cuda


class Service:
    """Answers questions about one runner.

    Args:
        workload: what to load.
        started: `time.perf_counter()` when the process began.

    Attributes:
        rested: processor time of the process at its last answer, in seconds.

    Raises:
        MaximDeployError: the workload cannot be loaded.
    """

    def __init__(self, workload: Workload, started: float) -> None:
        # Read before loading, so that weights and libraries count as the subject's memory.
        free = _free_bytes(workload)
        self._runner: Runner = runner_of(workload)
        self._free_before, self._workload = free, workload
        self._load_s = time.perf_counter() - started
        self.rested = time.process_time()

    def facts(self) -> dict[str, Any]:
        """The first answer."""
        return {
            "library": self._runner.library,
            "device": self._runner.device,
            "io": self._runner.io,
            "brackets": list(self._runner.brackets),
            "load_s": self._load_s,
            "baseline_bytes": resident_bytes(),
        }

    def first(self) -> dict[str, Any]:
        """Run the network for the first time."""
        # Loading may take more memory than running. The peak is reset in between, because it would
        # hide the peak of the run.
        loading_peak = peak_resident_bytes()
        forget_peak()
        took = self._runner.brackets["network"]().wall_ms
        run_peak = peak_resident_bytes()
        free, cuda = self._free_before, self._runner.cuda
        device_bytes = None if free is None or cuda is None else free - cuda.memory()[0]
        return {
            "first_call_ms": took,
            "peak_bytes": max(loading_peak, run_peak),
            "run_peak_bytes": run_peak,
            "device_bytes": device_bytes,
        }

    def save(self, file: str) -> dict[str, Any]:
        """Write the result of the last run."""
        np.save(file, self._runner.result())
        return {}

    def warm_up(self, bracket: str, longest_s: float) -> dict[str, Any]:
        """Run a bracket until its times are stable."""
        return warm_up(self._runner.brackets[bracket], longest_s)._asdict()

    def turn(self, bracket: str, least_s: float) -> dict[str, Any]:
        """Run a bracket for at least `least_s` seconds."""
        # Processor time of threads that spun on after the last answer, during others' turns.
        idle = time.process_time() - self.rested
        return {"runs": turn(self._runner.brackets[bracket], least_s), "idle_cpu_s": idle}

    def load(self, **arguments: Any) -> dict[str, Any]:
        """Call the restorer from several threads."""
        (picture, *_), restorer = self._workload.pictures(), self._runner.restorer()
        return under_load(lambda: restorer(picture), **arguments)

    def lanes(self) -> dict[str, Any]:
        """Most lanes of the restorer."""
        return {"most": most_lanes(self._runner.restorer(), self._workload.size)}

    def side_by_side(self, lanes: int, least_s: float) -> dict[str, Any]:
        """Time the restorer with a number of lanes."""
        (picture, *_), restorer = self._workload.pictures(), self._runner.restorer()
        return {"seconds": seconds_side_by_side(restorer, picture, lanes, least_s)}

    def keep(self, seconds: dict[str, float]) -> dict[str, Any]:
        """Keep the measured times for plans."""
        by_lanes = {int(lanes): found for lanes, found in seconds.items()}
        return kept_times(self._runner.restorer(), self._workload.size, by_lanes)


def serve(workload: Workload, questions: TextIO, answers: TextIO, started: float) -> int:
    """Load, then answer until the questions end. Returns the exit code."""

    def answer(work: Callable[[], dict[str, Any]]) -> bool:
        try:
            found, went_well = work(), True
        except (MaximDeployError, MemoryError) as error:
            found, went_well = {"error": str(error) or type(error).__name__}, False
        except Exception as error:  # an error of a library belongs in the record
            found, went_well = {"error": f"{type(error).__name__}: {error}"}, False
        answers.write(json.dumps(found) + "\n")
        answers.flush()
        return went_well

    services: list[Service] = []

    def load() -> dict[str, Any]:
        services.append(Service(workload, started))
        return services[0].facts()

    if not answer(load):
        return 1
    for line in questions:
        question = json.loads(line)
        ask = getattr(services[0], question.pop("do"))
        answer(lambda ask=ask, question=question: ask(**question))  # type: ignore[misc]
        services[0].rested = time.process_time()
    return 0


def _free_bytes(workload: Workload) -> int | None:
    """Free memory of the GPU, before anything but a context is on it."""
    if not workload.on_gpu:
        return None
    try:
        return open_cuda(device=DEVICE).memory()[0]
    except MaximDeployError:
        return None  # the runner reports the error


def main() -> None:
    """Serve the workload on the command line."""
    started = time.perf_counter()
    # A terminal sends Ctrl-C to the whole group. The parent ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Compilers and libraries may write to stdout, even from C code. So only the answers use the
    # pipe, and descriptor 1 becomes stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    fields = json.loads(sys.argv[1])
    workload = Workload(**fields | {"size": tuple(fields["size"])})
    raise SystemExit(serve(workload, sys.stdin, answers, started))


if __name__ == "__main__":
    main()
