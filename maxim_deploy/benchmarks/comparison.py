"""A comparison: every subject of a plan, on one machine, in one run.

The subjects are made, loaded side by side in processes of their own, checked to agree, and timed in
turn. Peak memory follows, one fresh process at a time.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from maxim_deploy._memory import per_pixel
from maxim_deploy.benchmarks.environment import environment
from maxim_deploy.benchmarks.live_set import live_set, operator_counts
from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.subjects import engine_of, subject_file
from maxim_deploy.benchmarks.suite import Plan
from maxim_deploy.benchmarks.timing import interleaved
from maxim_deploy.benchmarks.worker import Worker
from maxim_deploy.errors import BackendError

MAX_ERROR = 1e-4
"""Subjects that differ by more do not compute the same function, and their times say nothing. The
deployment graph is allowed 3e-5 elsewhere; the mildest fault that we know costs 6e-5."""

IDLE_LOAD = 0.5
"""Load average above which something else is running, and times are not to be trusted. Seen at
loads of 4 to 5 on two cores: PyTorch on a small network took 23 ms once and 420 ms another time."""

Say = Callable[[str], None]
Files = Mapping[str, Path]


def run_plan(name: str, plan: Plan, cache: Path, say: Say = lambda _: None) -> list[Record]:
    """Measure every subject of a plan.

    Args:
        name: of the plan.
        plan: what to measure.
        cache: folder in which subjects' files are kept.
        say: told what is being done.

    Returns:
        A record per subject, in the plan's order.

    Raises:
        BackendError: a subject cannot be run, or does not compute what the first one computes.
    """
    run, before = uuid.uuid4().hex[:12], environment()
    if (before["load_average_1m"] or 0) > IDLE_LOAD:
        say(f"{name}: this machine is busy (load {before['load_average_1m']}); times will be off")
    files = {}
    for subject in plan.subjects:
        say(f"{name}: making {subject}")
        files[subject] = subject_file(subject, plan.architecture, cache)
    graphs = {subject: _graph_facts(file, plan) for subject, file in files.items()}
    timed = _timed(name, plan, files, say)
    memory = {subject: _memory(name, plan, subject, files[subject], say) for subject in files}
    common: dict[str, Any] = {
        "suite": name,
        "run": run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "architecture": str(plan.architecture),
        "environment": before,
    }
    return [
        Record(
            subject=subject,
            engine=engine_of(subject),
            graph=graphs[subject],
            memory=memory[subject],
            **timed[subject],
            **common,
        )
        for subject in files
    ]


def _graph_facts(file: Path, plan: Plan) -> dict[str, Any] | None:
    if file.suffix != ".onnx":
        return None
    counts, living = operator_counts(file), live_set(file, (1, 3, *plan.size))
    return {
        "nodes": counts.total(),
        "transposes": counts["Transpose"],
        "live_bytes_per_pixel": round(living.bytes_per_pixel, 1),
        "live_at": living.node,
    }


def _timed(name: str, plan: Plan, files: Files, say: Say) -> dict[str, dict[str, Any]]:
    """`library`, `time` and `agreement` of every subject."""
    with ExitStack() as stack:
        say(f"{name}: loading {len(files)} subjects")
        workers = {
            subject: stack.enter_context(Worker(engine_of(subject), file, plan.threads, plan.size))
            for subject, file in files.items()
        }
        errors = _errors(workers, plan.subjects[0])
        say(f"{name}: timing {plan.rounds} rounds")
        seconds = interleaved(
            {subject: worker.run for subject, worker in workers.items()},
            rounds=plan.rounds,
            warmup=plan.warmup,
            settle=lambda: time.sleep(plan.pause_s),
        )
    method = {key: getattr(plan, key) for key in ("threads", "warmup", "rounds", "pause_s")}
    for subject, worker in workers.items():
        if worker.idle_cpu_s >= plan.pause_s:
            say(f"{name}: {subject} was busy for {worker.idle_cpu_s:.2f} s of rest; raise pause_s")
    return {
        subject: {
            "library": worker.loaded["library"],
            "time": {
                "size": list(plan.size),
                **method,
                "seconds": seconds[subject],
                "idle_cpu_s": worker.idle_cpu_s,
            },
            "agreement": {"with": plan.subjects[0], "max_error": errors[subject]},
        }
        for subject, worker in workers.items()
    }


def _errors(workers: Mapping[str, Worker], first: str) -> dict[str, float]:
    """The largest absolute difference of every subject's result from the first one's."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for subject, worker in workers.items():
            worker.run()
            worker.save(Path(folder, f"{subject}.npy"))
            results[subject] = np.load(Path(folder, f"{subject}.npy"))
    errors = {name: float(np.abs(found - results[first]).max()) for name, found in results.items()}
    for subject, error in errors.items():
        if not error <= MAX_ERROR:  # also true for NaN
            raise BackendError(
                f"{subject} differs from {first} by {error:.2g}, at most {MAX_ERROR:.2g} is "
                "allowed: they do not compute the same, so their times cannot be compared"
            )
    return errors


def _memory(name: str, plan: Plan, subject: str, file: Path, say: Say) -> dict[str, Any] | None:
    if plan.memory_size is None or engine_of(subject) != "onnxruntime":
        return None
    say(f"{name}: peak memory of {subject}")
    with Worker(engine_of(subject), file, plan.threads, plan.memory_size) as worker:
        memory = worker.memory()
    return {
        "size": list(plan.memory_size),
        "threads": plan.threads,
        **memory,
        "bytes_per_pixel": round(per_pixel(memory, plan.memory_size), 1),
    }
