"""Recommend options for this machine: measure every backend that runs a bundle here.

Each backend, precision and number of threads has its own process, and all have turns in every
round. If the number of lanes can be chosen, each number has a turn. Times of larger work are
computed from the time per padded pixel at the measured size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from maxim_deploy.benchmarks.lane_times import FRAME, PHOTO
from maxim_deploy.benchmarks.timing import interleaved
from maxim_deploy.benchmarks.worker import Worker
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.errors import BackendError, MaximDeployError, UsageError
from maxim_deploy.machine.facts import machine_facts, machine_of
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.runtime.registry import backend_named, backend_names
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.quantities import readable_seconds

SIZE, ROUNDS = (256, 256), 5

TURN_S = 0.5
"""Least seconds of a turn of a number of lanes."""

PAUSE_S = 0.25
"""Seconds of rest after each turn. Threads continue to spin for a while and would take the
processors from the next turn."""

MINUTE = 60 * 30
"""Frames of a minute of video, at 30 frames per second."""

NOT_RECOMMENDED = ("torch",)
"""Backends for comparison only."""


@dataclass(frozen=True)
class Candidate:
    """The backend, precision and threads of a process."""

    backend: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Row:
    """A candidate with a number of lanes.

    Attributes:
        candidate: backend, precision and threads.
        lanes: pictures at a time.
        seconds: per picture, the median of the rounds.
        photo_s: expected time of a photograph; None if it does not fit the memory.
        minute_s: expected time of a minute of video; None if it does not fit the memory.
        photo: how a photograph runs, in words.
    """

    candidate: Candidate
    lanes: int
    seconds: float
    photo_s: float | None
    minute_s: float | None
    photo: str


@dataclass(frozen=True)
class Recommendation:
    """Measurements and the recommendation.

    Attributes:
        size: height and width of the pictures.
        machine: the machine in words.
        rows: the rows that ran, the fastest for many pictures first.
        failures: why other candidates did not run, by their names.
    """

    size: tuple[int, int]
    machine: str
    rows: Sequence[Row]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def for_latency(self) -> Row:
        """The fastest row for one picture."""
        return min((row for row in self.rows if row.lanes == 1), key=lambda row: row.seconds)

    @property
    def for_throughput(self) -> Row:
        """The row with most pictures per second."""
        return min(self.rows, key=lambda row: row.seconds)

    def to_json(self) -> dict[str, Any]:
        """The object of a line of `maxim-bench --recommend --json`."""
        return {
            "size": self.size,
            "machine": self.machine,
            "rows": [_flat(row) for row in self.rows],
            "failures": self.failures,
            "latency": _flat(self.for_latency),
            "throughput": _flat(self.for_throughput),
        }

    def __str__(self) -> str:
        height, width = self.size
        one, many = self.for_latency, self.for_throughput
        lines = [
            f"{height}x{width} on {self.machine}",
            "",
            "| backend | precision | threads | lanes | ms per picture | pictures/s | 12 MP photo "
            "| minute of 1080p |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(_line, self.rows),
            "",
            f"One picture soonest: {_options(one)}: {readable_seconds(one.seconds)}, a photograph "
            f"of 12 megapixels ({one.photo}) about {_readable(one.photo_s)}.",
            f"Most pictures per second: {_options(many)}: {1 / many.seconds:.3g} per second, a "
            f"minute of 1080p video about {_readable(many.minute_s)}.",
            f"Times of {PHOTO[0]}x{PHOTO[1]} and of {MINUTE:,} frames of {FRAME[0]}x{FRAME[1]} are "
            f"expected from the time per padded pixel at {height}x{width}; reading and writing "
            "files overlaps and is not in them.",
            *(f"not measured: {what} | {why}" for what, why in self.failures.items()),
        ]
        return "\n".join(lines)


def recommendation(
    bundle: Path,
    size: tuple[int, int],
    *,
    rounds: int = ROUNDS,
    threads: int | None = None,
    backends: Sequence[str] = (),
    precisions: Sequence[str] = (),
    progress: Callable[[str], object] = lambda _: None,
) -> Recommendation:
    """Measure, and keep the times for `Restorer.plan`.

    Args:
        bundle: bundle to run.
        size: height and width of the pictures.
        rounds: turns of each row.
        threads: most threads; None for one per core.
        backends: backends to measure; empty for all that may run here.
        precisions: precisions to measure; empty for all that the bundle has.
        progress: called with each step in words.

    Raises:
        UsageError: there is nothing to measure.
        BundleError: the folder is not a bundle.
        BackendError: no candidate runs here.
    """
    opened = Bundle.open(bundle)
    candidates = candidates_of(opened, threads or usable_processors(), backends, precisions)
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        workers: dict[Candidate, Worker] = {}
        for one in candidates:
            progress(f"loading {_named(one)}")
            try:
                workers[one] = stack.enter_context(Worker(_workload(opened.path, size, one)))
            except MaximDeployError as error:
                failures[_named(one)] = str(error)
        rows = _measured(workers, rounds, failures, progress)
    if not rows:
        why = "\n".join(f"{what}: {why}" for what, why in failures.items())
        raise BackendError(f"nothing runs {str(bundle)!r} at {size[0]}x{size[1]} here:\n{why}")
    machine = machine_of({**machine_facts(), "gpu": None})
    return Recommendation(size, machine, sorted(rows, key=lambda row: row.seconds), failures)


def candidates_of(
    bundle: Bundle, threads: int, backends: Sequence[str] = (), precisions: Sequence[str] = ()
) -> list[Candidate]:
    """The candidates to measure: on a CPU with all threads and with half of them.

    Raises:
        UsageError: there is no candidate.
    """
    graphs = {graph.precision for graph in bundle.manifest.graphs}
    found = []
    for name in backends or [one for one in backend_names() if one not in NOT_RECOMMENDED]:
        spec = backend_named(name)
        if spec.is_on_gpu and find_gpu() is None and not backends:
            continue
        engines = {e.precision for e in bundle.manifest.engines if e.library == name}
        have = engines if spec.runs == "engines" else graphs
        counts = [threads] if spec.is_on_gpu else sorted({threads, max(1, threads // 2)})[::-1]
        wanted = [p for p in spec.precisions if p in have and p in (precisions or have)]
        found += [Candidate(name, p, count) for p in wanted for count in counts]
    if not found:
        raise UsageError(
            f"bundle {str(bundle.path)!r} | has nothing to measure with "
            f"{', '.join(backends) or 'the backends of this machine'}"
            f"{' in ' if precisions else ''}{' or '.join(precisions)} | its graphs are in "
            f"{', '.join(sorted(graphs)) or 'no precision'}"
        )
    return found


def lanes_of(threads: int, most: int) -> tuple[int, ...]:
    """Numbers of lanes to measure."""
    several = {threads, threads // 2, threads // 4}
    return (1, *sorted(number for number in several if 1 < number <= most))


def _measured(
    workers: dict[Candidate, Worker],
    rounds: int,
    failures: dict[str, str],
    progress: Callable[[str], object],
) -> list[Row]:
    numbers: dict[Candidate, tuple[int, ...]] = {}
    for one, worker in workers.items():
        progress(f"warming up {_named(one)}")
        try:
            # Lanes share all threads. Half of the threads are measured for one picture only.
            is_all = one.threads == max(other.threads for other in workers)
            most = worker.most_lanes() if is_all else 1
            numbers[one] = lanes_of(one.threads, most)
            for lanes in numbers[one]:
                worker.side_by_side(lanes, 0.0)
        except MaximDeployError as error:
            numbers.pop(one, None)
            failures[_named(one)] = str(error)
    if not numbers:
        return []
    turns = {
        (one, lanes): (lambda one=one, lanes=lanes: workers[one].side_by_side(lanes, TURN_S))
        for one, all_lanes in numbers.items()
        for lanes in all_lanes
    }
    progress(f"timing {rounds} rounds")
    pause = lambda: time.sleep(PAUSE_S)  # noqa: E731
    times = interleaved(turns, rounds=rounds, longest_s=math.inf, settle=pause)
    rows = []
    for one, all_lanes in numbers.items():
        seconds = {lanes: median(times[one, lanes]) for lanes in all_lanes}
        kept = workers[one].keep(seconds)
        rows += [
            Row(
                one,
                lanes,
                seconds[lanes],
                kept["photo_s"][str(lanes)],
                _times(kept["frame_s"][str(lanes)], MINUTE),
                kept["photo"],
            )
            for lanes in all_lanes
        ]
    return rows


def _workload(bundle: Path, size: tuple[int, int], one: Candidate) -> Workload:
    on_gpu = backend_named(one.backend).is_on_gpu
    return Workload(
        one.backend, str(bundle), size, one.precision, threads=one.threads, on_gpu=on_gpu
    )


def _times(seconds: float | None, count: int) -> float | None:
    return None if seconds is None else seconds * count


def _flat(row: Row) -> dict[str, Any]:
    facts = asdict(row)
    candidate: dict[str, Any] = facts.pop("candidate")
    return candidate | facts


def _line(row: Row) -> str:
    one = row.candidate
    return (
        f"| {one.backend} | {one.precision} | {one.threads} | {row.lanes} | "
        f"{1e3 * row.seconds:.3g} | {1 / row.seconds:.3g} | {_readable(row.photo_s)} | "
        f"{_readable(row.minute_s)} |"
    )


def _options(row: Row) -> str:
    one = row.candidate
    return (
        f"--backend {one.backend} --precision {one.precision} --threads {one.threads} "
        f"--lanes {row.lanes}"
    )


def _named(one: Candidate) -> str:
    return f"{one.backend} {one.precision} with {one.threads} threads"


def _readable(seconds: float | None) -> str:
    return "does not fit" if seconds is None else readable_seconds(seconds)
