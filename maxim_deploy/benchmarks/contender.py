"""One subject in a comparison: its process, its measurements so far, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.benchmarks.load import SHARES
from maxim_deploy.benchmarks.subjects import Subject
from maxim_deploy.benchmarks.summary import summary, throughput
from maxim_deploy.benchmarks.timing import Timed, Warmup
from maxim_deploy.benchmarks.worker import Worker
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.errors import BackendError
from maxim_deploy.spec.precision import lower_of

LEVEL = 1 / 255
"""Error of rounding to 8 bits, allowed if a graph of the image form is compared with another."""

Found = TypeVar("Found")


@dataclass
class Contender:
    """A subject at one size and batch, with its measurements.

    Attributes:
        subject: the subject.
        graph: an equivalent graph and its form, for the cost; None if there is none.
        worker: its process, once loaded.
        error: why there are no numbers. After an error the subject is not run again.
        first: answer about the first run, see `worker_main`.
        agreement: comparison with the first subject.
        warmups: warm-ups by bracket.
        turns: turns by bracket, one list per round.
        load: tests under load.
        load_error: why tests under load are missing.
    """

    subject: Subject
    graph: tuple[Path, str] | None = None
    worker: Worker | None = None
    error: str | None = None
    first: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, Any] | None = None
    warmups: dict[str, Warmup] = field(default_factory=dict)
    turns: dict[str, list[list[Timed]]] = field(default_factory=dict)
    load: list[dict[str, Any]] = field(default_factory=list)
    load_error: str | None = None

    def attempt(self, work: Callable[[], Found]) -> Found | None:
        """Call `work` unless the subject has failed. If the call fails, keep the reason."""
        if self.error is not None:
            return None
        try:
            return work()
        except BackendError as error:
            self.error = str(error)
            return None

    def start(self, workload: Workload, stack: ExitStack) -> None:
        """Load the subject, and run it once."""

        def load() -> None:
            self.worker = stack.enter_context(Worker(workload))
            self.first = self.worker.first()

        self.attempt(load)

    def result(self, folder: Path) -> NDArray[np.float32] | None:
        """The restored pictures, `[N, H, W, 3]`; None if the subject has failed."""
        file = folder / "result.npy"
        if self.attempt(lambda: self._worker.save(file)) is None and self.error is not None:
            return None
        found: NDArray[np.float32] = np.load(file)
        return found

    def agree(self, own: NDArray[np.float32], other: Contender, its: NDArray[np.float32]) -> None:
        """Compare two results. A difference above the limit is an error of this subject."""
        lower = lower_of([one.subject.precision for one in (self, other)])
        allowed = lower.benchmark_error
        if "image" in (self._worker.loaded["io"], other._worker.loaded["io"]):
            own, its, allowed = own.clip(0, 1), its.clip(0, 1), allowed + LEVEL
        error = float(np.abs(own - its).max())
        self.agreement = {
            "with": other.subject.name,
            "precision": other.subject.precision,
            "max_error": error if np.isfinite(error) else None,
            "allowed": allowed,
        }
        # Every comparison with NaN is false. Written this way, NaN is an error as well.
        if not error <= allowed:
            self.error = (
                f"{self.subject} differs from {other.subject} by {error:.2g} | expected at most "
                f"{allowed:.2g} | they compute different results, so their times cannot be "
                "compared"
            )

    def warm_up(self, brackets: tuple[str, ...], longest_s: float) -> None:
        """Warm up the brackets that the subject has."""
        for bracket in brackets:
            if self.error is None and bracket in self._worker.brackets:
                found = self.attempt(lambda b=bracket: self._worker.warm_up(b, longest_s))  # type: ignore[misc]
                if found is not None:
                    self.warmups[bracket] = found

    def turn(self, bracket: str, least_s: float) -> list[Timed]:
        """One turn; empty if the subject has failed."""
        return self.attempt(lambda: self._worker.turn(bracket, least_s)) or []

    def under_load(self, callers: int, seconds: float) -> None:
        """Run a closed loop, then open loops at shares of its rate.

        An error here does not affect earlier times.
        """
        if self.load_error is not None:
            return
        modes: list[float | None] = [None, *SHARES]
        for share in modes:
            rate = share and share * self.load[-modes.index(share)]["images_per_s"]
            mode = "open" if rate else "closed"
            try:
                found = self._worker.load(mode=mode, callers=callers, seconds=seconds, rate=rate)
            except BackendError as error:
                self.load_error = f"{callers} callers: {error}"
                return
            self.load.append(found)

    @property
    def _worker(self) -> Worker:
        assert self.worker is not None
        return self.worker

    def timings(self, size: tuple[int, int], batch: int) -> dict[str, dict[str, Any]]:
        """`timings` of a record."""
        return {
            bracket: _timing(rounds, self.warmups[bracket], size, batch)
            for bracket, rounds in self.turns.items()
        }

    def memory(self, size: tuple[int, int], batch: int) -> dict[str, Any]:
        """`memory` of a record; `size` is the padded size that the network sees."""
        baseline = self._worker.loaded["baseline_bytes"]
        # The peak of the run alone: the peak of loading was reset before it.
        added = self.first["run_peak_bytes"] - baseline
        return {
            "size": list(size),
            "baseline_bytes": baseline,
            "peak_bytes": self.first["peak_bytes"],
            "bytes_per_pixel": round(added / (batch * size[0] * size[1]), 1),
            "device_bytes": self.first["device_bytes"],
        }


def _timing(
    rounds: list[list[Timed]], warmup: Warmup, size: tuple[int, int], batch: int
) -> dict[str, Any]:
    wall = summary([one.wall_ms for turn in rounds for one in turn])
    gpu = [one.gpu_ms for turn in rounds for one in turn]
    on_gpu = [ms for ms in gpu if ms is not None]
    return {
        "wall": wall,
        "gpu": summary(on_gpu) if len(on_gpu) == len(gpu) else None,
        "rounds_ms": [[one.wall_ms for one in turn] for turn in rounds],
        **throughput(wall["p50_ms"], *size, batch),
        "warmup_runs": warmup.runs,
        "stable": warmup.stable,
    }
