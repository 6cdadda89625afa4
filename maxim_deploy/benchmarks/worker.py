"""Runs each measured subject in a separate process: the parent's side.

One process per subject keeps the subjects out of each other's way: no shared thread pool, no
shared allocator, and the peak memory is the subject's alone. The other end, and what the two say to
each other, is in `worker_main`.
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
"""A worker that gives no answer for so long is ended. The longest that is ordinary is compiling the
largest network with `torch.compile` on two cores, which takes minutes."""


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
        """The most processor time used between two turns."""
        try:
            self.loaded = self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def brackets(self) -> list[str]:
        """Brackets that it can time."""
        return list(self.loaded["brackets"])

    def first(self) -> dict[str, Any]:
        """Run the network for the first time: `first_call_ms`, `peak_bytes`, `device_bytes`."""
        return self._ask("first")

    def save(self, file: Path) -> None:
        """Write the result of the last run, `[N, H, W, 3]`, as .npy."""
        self._ask("save", file=str(file))

    def warm_up(self, bracket: str, longest_s: float) -> Warmup:
        """As `timing.warm_up`."""
        return Warmup(**self._ask("warm_up", bracket=bracket, longest_s=longest_s))

    def turn(self, bracket: str, least_s: float) -> list[Timed]:
        """As `timing.turn`."""
        answer = self._ask("turn", bracket=bracket, least_s=least_s)
        self.idle_cpu_s = max(self.idle_cpu_s, answer["idle_cpu_s"])
        return [Timed(*run) for run in answer["runs"]]

    def load(self, **arguments: Any) -> dict[str, Any]:
        """As `load.under_load`, on a restorer."""
        return self._ask("load", **arguments)

    def most_lanes(self) -> int:
        """As `lane_times.most_lanes`."""
        return int(self._ask("lanes")["most"])

    def side_by_side(self, lanes: int, least_s: float) -> float:
        """As `lane_times.seconds_side_by_side`."""
        return float(self._ask("side_by_side", lanes=lanes, least_s=least_s)["seconds"])

    def keep(self, seconds: dict[int, float]) -> dict[str, Any]:
        """As `lane_times.kept_times`; numbers of lanes are text, as JSON has them."""
        return self._ask("keep", seconds=seconds)

    def close(self, *, at_once: bool = True) -> None:
        """End the process."""
        if at_once:
            self._process.kill()
        # Closes its stdin, which ends a worker that waits, and reads on, so that none blocks on a
        # full pipe.
        self._process.communicate()

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
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
        # An empty line is the end of the pipe: the process is gone or going.
        if not line:
            code = self._process.wait()
            raise BackendError(
                f"{self._name} {how_it_ended(code)}; its own words are above"
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
