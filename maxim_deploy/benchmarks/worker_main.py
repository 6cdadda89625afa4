"""The worker's end of a measurement: load what the workload says, then do what is asked.

`python -m maxim_deploy.benchmarks.worker_main WORKLOAD`, a `workload.Workload` as JSON, reads a
line of JSON per question from stdin and writes one per answer to stdout. Whatever else writes to
stdout is sent to stderr. An answer may be `{"error": ...}` instead; after that of loading the
process ends.

- at once: `library`, `device`, `io`, `brackets`; `load_s`; `baseline_bytes`, resident once loaded,
  with the pictures in memory
- `first`: the first run of the network: `first_call_ms`; `peak_bytes` of the process so far, and
  `run_peak_bytes` without loading; `device_bytes` that loading and running took from the GPU, None
  on a CPU
- `save`, `file`: the result of the network's last run, as .npy
- `warm_up`, `bracket`, `longest_s`: `runs`, `stable`
- `turn`, `bracket`, `least_s`: `runs`, a list of [wall ms, GPU ms]; `idle_cpu_s`, processor time
  that the process used since its last answer
- `load`, and the arguments of `load.under_load`: what that returns
- `lanes`: `most`, the number of lanes that the restorer can have with its threads
- `side_by_side`, `lanes`, `least_s`: `seconds` per picture with so many calls at a time
- `keep`, `seconds` by number of lanes: kept for plans; what `lane_times.kept_times` returns
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
        rested: processor time of the process when it had last given an answer.

    Raises:
        MaximDeployError: it cannot be loaded.
    """

    def __init__(self, workload: Workload, started: float) -> None:
        # Before anything is loaded, so that weights and libraries count as the subject's.
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
        # Loading may take more than running. The peak is reset in between, or it would hide that
        # of the run.
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
        """Write the result."""
        np.save(file, self._runner.result())
        return {}

    def warm_up(self, bracket: str, longest_s: float) -> dict[str, Any]:
        """Run until it is stable."""
        return warm_up(self._runner.brackets[bracket], longest_s)._asdict()

    def turn(self, bracket: str, least_s: float) -> dict[str, Any]:
        """Run for a while."""
        # What threads took that went on spinning after the last answer, when others had their turn.
        idle = time.process_time() - self.rested
        return {"runs": turn(self._runner.brackets[bracket], least_s), "idle_cpu_s": idle}

    def load(self, **arguments: Any) -> dict[str, Any]:
        """Call the restorer from several threads."""
        (picture, *_), restorer = self._workload.pictures(), self._runner.restorer()
        return under_load(lambda: restorer(picture), **arguments)

    def lanes(self) -> dict[str, Any]:
        """How many lanes there may be."""
        return {"most": most_lanes(self._runner.restorer(), self._workload.size)}

    def side_by_side(self, lanes: int, least_s: float) -> dict[str, Any]:
        """Restore with a number of lanes."""
        (picture, *_), restorer = self._workload.pictures(), self._runner.restorer()
        return {"seconds": seconds_side_by_side(restorer, picture, lanes, least_s)}

    def keep(self, seconds: dict[str, float]) -> dict[str, Any]:
        """Keep what was measured."""
        by_lanes = {int(lanes): found for lanes, found in seconds.items()}
        return kept_times(self._runner.restorer(), self._workload.size, by_lanes)


def serve(workload: Workload, questions: TextIO, answers: TextIO, started: float) -> int:
    """Load, then answer until the questions end; the exit code."""

    def answer(work: Callable[[], dict[str, Any]]) -> bool:
        try:
            found, went_well = work(), True
        except (MaximDeployError, MemoryError) as error:
            found, went_well = {"error": str(error) or type(error).__name__}, False
        except Exception as error:  # of a library: it belongs into the record
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
    """Of the GPU, before anything is on it but a context."""
    if not workload.on_gpu:
        return None
    try:
        return open_cuda(device=DEVICE).memory()[0]
    except MaximDeployError:
        return None  # the runner says what is wrong


def main() -> None:
    """Serve the workload on the command line."""
    started = time.perf_counter()
    # A terminal sends Ctrl-C to the whole group. The parent ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Compilers and libraries write to stdout as they like, C code too. The answers keep the pipe
    # for themselves, and descriptor 1 becomes stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    fields = json.loads(sys.argv[1])
    workload = Workload(**fields | {"size": tuple(fields["size"])})
    raise SystemExit(serve(workload, sys.stdin, answers, started))


if __name__ == "__main__":
    main()
