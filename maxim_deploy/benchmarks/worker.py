"""Runs each measured subject in a separate process: the parent's side.

Separate processes keep the subjects independent: they share neither thread pool nor allocator, and
the peak memory belongs to one subject. `worker_main` is the other side and describes the protocol.
"""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from maxim_deploy.benchmarks.timing import Timed, Warmup
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.errors import BackendError
from maxim_deploy.machine.processes import how_it_ended, python_process

PATIENCE_S = 1800.0
"""Seconds after which a worker without an answer is ended. The longest ordinary wait is the
compilation of the largest network by `torch.compile` on two cores, which takes minutes."""


class Worker:
    """Starts the process, sends it requests, and ends it on leaving the block.

    Args:
        workload: what to load.
        patience_s: seconds to wait for an answer.

    Raises:
        BackendError: the subject cannot be loaded.
    """

    def __init__(self, workload: Workload, patience_s: float = PATIENCE_S) -> None:
        self._name = f"{workload.runner} on {Path(workload.file).name}"
        self._patience_s = patience_s
        command = python_process(
            "-m", "maxim_deploy.benchmarks.worker_main", json.dumps(asdict(workload))
        )
        self._process: subprocess.Popen[str] = subprocess.Popen(  # our own module
            **command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.idle_cpu_s = 0.0
        """Most processor time that the process used between two turns, in seconds."""
        try:
            self.loaded = self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Identifier of the process."""
        return self._process.pid

    @property
    def brackets(self) -> list[str]:
        """Brackets that the worker can time."""
        return list(self.loaded["brackets"])

    def first(self) -> dict[str, Any]:
        """Run the network for the first time: `first_call_ms`, `peak_bytes`, `device_bytes`."""
        return self._ask("first")

    def save(self, file: Path) -> None:
        """Write the result of the last run, `[N, H, W, 3]`, as .npy."""
        self._ask("save", file=str(file))

    def warm_up(self, bracket: str, longest_s: float) -> Warmup:
        """Warm up a bracket with `timing.warm_up`."""
        return Warmup(**self._ask("warm_up", bracket=bracket, longest_s=longest_s))

    def turn(self, bracket: str, least_s: float) -> list[Timed]:
        """Run a bracket for at least `least_s` seconds with `timing.turn`."""
        answer = self._ask("turn", bracket=bracket, least_s=least_s)
        self.idle_cpu_s = max(self.idle_cpu_s, answer["idle_cpu_s"])
        return [Timed(*run) for run in answer["runs"]]

    def load(self, **arguments: Any) -> dict[str, Any]:
        """Put a restorer under load; arguments and result are those of `load.under_load`."""
        return self._ask("load", **arguments)

    def most_lanes(self) -> int:
        """Most calls at a time that threads and memory allow; see `lane_times.most_lanes`."""
        return int(self._ask("lanes")["most"])

    def side_by_side(self, lanes: int, least_s: float) -> float:
        """Seconds per picture with `lanes` calls at a time, over at least `least_s` seconds."""
        return float(self._ask("side_by_side", lanes=lanes, least_s=least_s)["seconds"])

    def keep(self, seconds: dict[int, float]) -> dict[str, Any]:
        """Keep times with `lane_times.kept_times`; numbers of lanes in the answer are strings."""
        return self._ask("keep", seconds=seconds)

    def close(self, *, at_once: bool = True) -> None:
        """End the process."""
        if at_once:
            self._process.kill()
        # This closes stdin, which ends a waiting worker. It also reads on, so that the worker does
        # not block on a full pipe.
        self._process.communicate()

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer has the reason
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # A read of a pipe has no timeout; ending the process ends the read.
        patience = threading.Timer(self._patience_s, self._process.kill)
        patience.daemon = True  # Ctrl-C may come between any two lines
        patience.start()
        try:
            line = self._process.stdout.readline()
            in_time = patience.is_alive()
        finally:
            patience.cancel()
        # An empty line is the end of the pipe: the process has ended or is ending.
        if not line:
            code = self._process.wait()
            raise BackendError(
                f"{self._name} {how_it_ended(code)} | see its output above"
                if in_time
                else f"{self._name} gave no answer within {self._patience_s:.0f} s"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BackendError(answer["error"])
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(at_once=error is not None)
