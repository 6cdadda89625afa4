"""A comparison: all subjects of a plan on one model, size and batch, side by side.

Each subject is loaded in its own process. Then all are checked to agree, warmed up, and timed in
turn, bracket by bracket. The record of a failed subject has the reason, and the others continue.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxim_deploy.benchmarks.contender import Contender
from maxim_deploy.benchmarks.handoff import handoff_ns
from maxim_deploy.benchmarks.noise import Watch, spread_of, warnings_of
from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.roofline import Roofline
from maxim_deploy.benchmarks.subjects import Subject
from maxim_deploy.benchmarks.suite import SuitePlan
from maxim_deploy.benchmarks.timing import interleaved
from maxim_deploy.benchmarks.workload import Workload, input_shape
from maxim_deploy.machine.sensors import gpu_sensors
from maxim_deploy.runtime.registry import backend_named
from maxim_deploy.spec.engines import EngineEntry, engine_for


@dataclass(frozen=True)
class Files:
    """The files of a subject.

    Attributes:
        file: a bundle, a graph or a file of weights.
        graph: an ONNX graph that computes the same, and its form; None if there is none.
        error: why there is no file; None if there is one.
        engines: engines of the bundle.
    """

    file: Path | None = None
    graph: tuple[Path, str] | None = None
    error: str | None = None
    engines: Sequence[EngineEntry] = ()


@dataclass(frozen=True)
class SideBySide:
    """One model at one size and batch.

    Attributes:
        plan: how to measure.
        files: files of every subject, in the plan's order.
        size: height and width of the pictures.
        batch: pictures per call.
        common: fields that all records of a run and model share.
        roofline: computes the cost of each subject.
        progress: called with each step in words.
        recall: `handoff_history.recall` for the folder and machine.
    """

    plan: SuitePlan
    files: dict[Subject, Files]
    size: tuple[int, int]
    batch: int
    common: dict[str, Any]
    roofline: Roofline
    progress: Callable[[str], None]
    recall: Callable[[float], tuple[float, float] | None] = lambda _: None

    def records(self) -> list[Record]:
        """Measure; returns a record per subject, in the order of the plan."""
        # Workers live until the last record is made; the stack ends them even after Ctrl-C.
        with ExitStack() as stack:
            contenders = self._started(stack)
            for contender in contenders:
                self.progress(f"warming up {contender.subject}")
                contender.warm_up(self.plan.brackets, self.plan.warmup_s)
            watch = self._watch(contenders)
            self._time(contenders, watch)
            handoff = watch.handoff_ns
            # Read before the tests under load, because the record covers only the timing.
            machine = {
                "foreign_cpu": watch.foreign_cpu(),
                "handoff_ns": handoff,
                "handoff_before_ns": self.recall(handoff["median"]) if handoff else None,
            }
            for contender in contenders:
                self._load(contender)
            return [self._record(one, watch, machine) for one in contenders]

    def _watch(self, contenders: list[Contender]) -> Watch:
        pids = [one.worker.pid for one in contenders if one.worker]
        if self.plan.on_gpu:
            return Watch(pids, gpu_sensors())
        return Watch(pids, None, lambda: handoff_ns(self.plan.threads))

    def _started(self, stack: ExitStack) -> list[Contender]:
        """Load all subjects, and compare each with the first one that runs."""
        contenders: list[Contender] = []
        first = None
        with tempfile.TemporaryDirectory() as folder:
            for subject, files in self.files.items():
                contender = Contender(subject, files.graph, error=files.error)
                contenders.append(contender)
                if files.file is None:
                    continue
                self.progress(f"loading {subject}")
                contender.start(self._workload(subject, files.file), stack)
                own = contender.result(Path(folder)) if contender.error is None else None
                if own is None:
                    continue
                # The first subject that runs, even if the plan's first one did not.
                first = first or (contender, own)
                contender.agree(own, *first)
        return contenders

    def _workload(self, subject: Subject, file: Path) -> Workload:
        on_gpu = self.plan.on_gpu
        if not subject.is_baseline:
            on_gpu = backend_named(subject.name).is_on_gpu
        return Workload(
            subject.runner(self.plan.on_gpu),
            str(file),
            self.size,
            subject.precision,
            self.batch,
            self.plan.threads,
            on_gpu,
        )

    def _time(self, contenders: list[Contender], watch: Watch) -> None:
        plan = self.plan
        # Many short turns instead of a long one: then a disturbance affects only a few rounds.
        least_s = plan.least_s / plan.rounds

        # Thread pools spin after a run and would take the processors from the next subject. The
        # GPU is sampled while it is warm, the processors once they rest.
        def settle() -> None:
            watch.sample()
            time.sleep(plan.pause_s)
            watch.sample_at_rest()

        turns = {
            (number, bracket): (lambda one=one, bracket=bracket: one.turn(bracket, least_s))
            for number, one in enumerate(contenders)
            for bracket in one.warmups
        }
        if not turns:
            return
        self.progress(f"timing {plan.rounds} rounds")
        found = interleaved(turns, rounds=plan.rounds, longest_s=plan.longest_s, settle=settle)
        for (number, bracket), rounds in found.items():
            contenders[number].turns[bracket] = [turn for turn in rounds if turn]

    def _load(self, contender: Contender) -> None:
        one_is_enough = self.batch != self.plan.batches[0]  # each call has one picture
        if contender.error is not None or "image" not in contender.warmups or one_is_enough:
            return
        for callers in self.plan.concurrency:
            self.progress(f"{contender.subject} under load, {callers} callers")
            contender.under_load(callers, self.plan.load_s)

    def _record(self, one: Contender, watch: Watch, machine: dict[str, Any]) -> Record:
        facts = {
            **self.common,
            "subject": one.subject.name,
            "runner": one.subject.runner(self.plan.on_gpu),
            "precision": one.subject.precision,
            "size": self.size,
            "batch": self.batch,
            "threads": self.plan.threads,
        }
        if one.worker is not None:
            facts |= {key: one.worker.loaded[key] for key in ("library", "device", "io")}
        if one.error is not None or one.worker is None or not one.turns:
            return Record(**facts, agreement=one.agreement, error=one.error or "nothing was timed")
        timings = one.timings(self.size, self.batch)
        noise = {
            "spread": spread_of(timing["rounds_ms"] for timing in timings.values()),
            **machine,
            "idle_cpu_s": one.worker.idle_cpu_s,
        }
        padding = self._workload(one.subject, Path()).padding
        padded = padding.padded_height, padding.padded_width
        return Record(
            **facts | {"environment": facts["environment"] | {"gpu_after": watch.gpu_state}},
            timings=timings,
            start={
                "load_s": one.worker.loaded["load_s"],
                "first_call_ms": one.first["first_call_ms"],
            },
            memory=one.memory(padded, self.batch),
            graph=self.roofline.graph_facts(*one.graph) if one.graph else None,
            cost=self._cost(one, timings, padded),
            bound=self._bound(one, timings),
            agreement=one.agreement,
            load=one.load,
            load_error=one.load_error,
            noise=noise,
            warnings=warnings_of(
                noise,
                pause_s=self.plan.pause_s,
                busy_before=self.common["environment"].get("busy"),
                throttled=watch.throttled,
                unstable=[name for name, warmup in one.warmups.items() if not warmup.stable],
                rounds=min(map(len, one.turns.values())),
            ),
        )

    def _cost(
        self, one: Contender, timings: dict[str, Any], padded: tuple[int, int]
    ) -> dict[str, Any] | None:
        if one.graph is None or "network" not in timings:
            return None
        assert one.worker is not None
        return self.roofline.cost(
            *one.graph,
            pixels=self.batch * padded[0] * padded[1],
            device=one.worker.loaded["device"].split(":")[0],
            precision=one.subject.precision,
            p50_ms=timings["network"]["wall"]["p50_ms"],
        )

    def _bound(self, one: Contender, timings: dict[str, Any]) -> dict[str, Any] | None:
        engines = self.files[one.subject].engines
        if not engines or one.graph is None or "network" not in timings:
            return None
        assert one.worker is not None
        loaded, precision = one.worker.loaded, one.subject.precision
        shape = input_shape(self.size, self.batch, loaded["io"])
        wanted = {"library": one.subject.name, "precision": precision, "io": loaded["io"]}
        found = engine_for(engines, shape, **wanted)
        traffic = found and found[0].traffic_of(found[1])
        if not traffic:
            return None
        return self.roofline.bound(
            traffic,
            *one.graph,
            shape,
            device=loaded["device"],
            precision=precision,
            took_ms=timings["network"]["wall"]["p50_ms"],
        )
