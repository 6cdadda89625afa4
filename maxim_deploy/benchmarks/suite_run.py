"""A run: measures a plan on each of its models, size by size, and yields the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxim_deploy._optional import require
from maxim_deploy.benchmarks.handoff_history import recall
from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.roofline import Roofline
from maxim_deploy.benchmarks.side_by_side import Files, SideBySide
from maxim_deploy.benchmarks.subjects import LITERAL, RULES, Subject
from maxim_deploy.benchmarks.suite import SuitePlan
from maxim_deploy.benchmarks.workload import input_shape
from maxim_deploy.errors import BackendError, EngineError, MaximDeployError, UsageError
from maxim_deploy.machine.facts import machine_of
from maxim_deploy.machine.gpu import find_gpu, no_gpu
from maxim_deploy.runtime.registry import backend_named, compared_backends
from maxim_deploy.runtime.request import FORMS
from maxim_deploy.spec.architecture import VARIANTS, Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_settings import engine_settings_from
from maxim_deploy.spec.precision import CPU_PRECISIONS, FULL, GPU_PRECISIONS

if TYPE_CHECKING:
    from maxim_deploy.benchmarks.profile.profile import LayerProfile


@dataclass(frozen=True)
class SuiteRun:
    """One call of the tool.

    Attributes:
        name: name of the plan.
        plan: what to measure.
        bundles: bundles by name, measured in place of the plan's models.
        cache: folder for bundles and engines made for the measurement, and for hand-off times of
            earlier comparisons.
        progress: called with each step in words.
        environment: the result of `environment.environment`.
        call: identifier that all runs of one call share.
    """

    name: str
    plan: SuitePlan
    bundles: dict[str, Bundle]
    cache: Path
    progress: Callable[[str], None]
    environment: dict[str, Any]
    call: str

    def records(self) -> Iterator[list[Record]]:
        """The records of each model, size and batch as soon as they are complete."""
        before = {
            "suite": self.name,
            "run": self.call,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": self.environment,
        }
        known = partial(recall, self.cache, machine_of(self.environment))
        for name, find in self._models():
            common = before | {"model": name, "architecture": ""}
            try:
                bundle = find()
            except MaximDeployError as error:
                yield from self._failed(common, str(error))
                continue
            common["architecture"] = str(bundle.manifest.architecture)
            plan = replace(self.plan, precisions=self._precisions(bundle))
            files = {subject: self._files(subject, bundle) for subject in plan.subjects}
            for size, batch in product(plan.sizes, plan.batches):
                what = f"{name} {size[0]}x{size[1]}" + (f" x {batch}" if batch > 1 else "")
                progress = _prefixed(self.progress, what)
                yield SideBySide(
                    plan, files, size, batch, common, self._roofline, progress, known
                ).records()

    def profiles(self) -> Iterator[LayerProfile]:
        """Profiles of each model, backend, precision, size and batch.

        Subjects without a profiler are reported and skipped.
        """
        from maxim_deploy.benchmarks.profile.bundle_profile import profile_bundle

        plan = self.plan
        for name, find in self._models():
            with self._said(name):
                bundle = find()
                precisions = self._precisions(bundle)
                for backend, precision, size, batch in product(
                    plan.backends, precisions, plan.sizes, plan.batches
                ):
                    with self._said(f"{name} {backend} {precision}"):
                        profile = profile_bundle(
                            bundle, precision, size, backend, plan.threads, batch=batch
                        )
                        yield self._with_bound(bundle, profile)

    @cached_property
    def _roofline(self) -> Roofline:
        """The roofline for records and profiles, which measures each ceiling once."""
        return Roofline(self.plan.threads, self.progress)

    def _with_bound(self, bundle: Bundle, profile: LayerProfile) -> LayerProfile:
        if profile.traffic is None or not profile.traffic.is_counted:
            return profile
        bound = self._roofline.bound(
            profile.traffic,
            bundle.path / bundle.graph(profile.precision, profile.io).file,
            profile.io,
            input_shape(profile.size, profile.batch, profile.io),
            device=profile.device,
            precision=profile.precision,
            took_ms=profile.wall_ms,
        )
        return replace(profile, bound=bound)

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except MaximDeployError as error:
            self.progress(f"not profiled: {what} | {error}")

    def _models(self) -> Iterator[tuple[str, Callable[[], Bundle]]]:
        if self.bundles:
            for name, bundle in self.bundles.items():
                yield name, lambda bundle=bundle: bundle  # type: ignore[misc]
            return
        for model in self.plan.models:
            yield _name_of(model), lambda model=model: self._made(model)  # type: ignore[misc]

    def _made(self, model: str | Architecture) -> Bundle:
        """The bundle of a model, made now or taken from the cache."""
        _require_exporter()
        from maxim_deploy.benchmarks.artifacts import model_bundle

        progress = _prefixed(self.progress, _name_of(model))
        return model_bundle(model, self.plan.precisions or (FULL,), self.cache, progress)

    def _precisions(self, bundle: Bundle) -> tuple[str, ...]:
        """The plan's precisions; by default the bundle's precisions that the backends run."""
        if self.plan.precisions:
            return self.plan.precisions
        runs = GPU_PRECISIONS if self.plan.on_gpu else CPU_PRECISIONS
        have = {graph.precision for graph in bundle.manifest.graphs}
        return tuple(precision for precision in runs if precision in have) or CPU_PRECISIONS[:1]

    def _files(self, subject: Subject, bundle: Bundle) -> Files:
        try:
            if subject.is_baseline:
                return self._baseline_files(subject, bundle)
            if backend_named(subject.name).runs == "engines" and not self.bundles:
                bundle = self._with_engine(subject, bundle)
            graph = _graph_in(bundle, subject.precision)
            return Files(bundle.path, graph, engines=bundle.manifest.engines)
        except MaximDeployError as error:
            return Files(error=str(error))

    def _baseline_files(self, subject: Subject, bundle: Bundle) -> Files:
        _require_exporter()
        from maxim_deploy.benchmarks.artifacts import baseline_file

        file = baseline_file(subject, bundle, self.cache, self.progress)
        if subject.is_graph:
            # The cost of a graph with ONNX Runtime's own operators cannot be counted.
            return Files(file, None if subject.name in RULES else (file, "tensor"))
        literal = Subject(LITERAL, is_baseline=True)
        # The literal graph has the same cost only in the same precision.
        if literal in self.plan.baselines and subject.precision == FULL:
            graph = baseline_file(literal, bundle, self.cache, self.progress)
            return Files(file, (graph, "tensor"))
        return Files(file)

    def _with_engine(self, subject: Subject, bundle: Bundle) -> Bundle:
        """The bundle with an engine for the plan's profiles."""
        if find_gpu() is None:
            raise BackendError(no_gpu())
        from maxim_deploy.engines.engine_file import BuildOptions
        from maxim_deploy.engines.store import add_engine

        asked: dict[str, Any] = {
            "library": subject.name,
            "precision": subject.precision,
            "profiles": list(self.plan.profiles) or _as_profiles(self.plan),
        }
        progress = _prefixed(self.progress, str(subject))
        settings = engine_settings_from(asked)
        add_engine(bundle.path, settings, BuildOptions(progress=progress))
        # Traffic gives a lower bound beside the measured time. The time is useful without it too.
        try:
            add_engine(bundle.path, settings, BuildOptions(traffic=True, progress=progress))
        except EngineError as error:
            progress(f"the engine's traffic is unknown | {error}")
        return Bundle.open(bundle.path)

    def _failed(self, common: dict[str, Any], why: str) -> Iterator[list[Record]]:
        for size, batch in product(self.plan.sizes, self.plan.batches):
            yield [
                Record(
                    **common,
                    subject=subject.name,
                    runner=subject.runner(self.plan.on_gpu),
                    precision=subject.precision,
                    size=size,
                    batch=batch,
                    threads=self.plan.threads,
                    error=why,
                )
                for subject in self.plan.subjects
            ]


def named(bundles: Sequence[Bundle]) -> dict[str, Bundle]:
    """Bundles by the names of their models; bundles of one model also have their folders' names.

    Raises:
        UsageError: two bundles still have the same name.
    """
    names = [bundle.manifest.model.name for bundle in bundles]
    for depth in (1, 2):
        names = [
            f"{bundle.manifest.model.name} in {'/'.join(bundle.path.resolve().parts[-depth:])}"
            if names.count(name) > 1
            else name
            for name, bundle in zip(names, bundles, strict=True)
        ]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two bundles are named {twice.pop()!r} | measure one after the other")
    return dict(zip(names, bundles, strict=True))


def backends_here(bundles: Sequence[Bundle]) -> tuple[str, ...]:
    """Default backends: the CPU, or on a GPU those that `load` would consider."""
    on_gpu = find_gpu() is not None
    libraries = {engine.library for bundle in bundles for engine in bundle.manifest.engines}
    return tuple(
        spec.name
        for spec in compared_backends()
        if spec.is_on_gpu == on_gpu and (spec.runs != "engines" or spec.name in libraries)
    )


def _require_exporter() -> None:
    """Check that models can be exported for the measurement.

    Raises:
        MissingDependencyError: something that the exporter needs is not installed.
    """
    for module in ("torch", "onnxscript", "safetensors"):
        require(module, "export")


def _name_of(model: str | Architecture) -> str:
    is_known = isinstance(model, str) and model not in VARIANTS
    return str(model) if is_known else f"{model} random"


def _graph_in(bundle: Bundle, precision: str) -> tuple[Path, str] | None:
    graphs = bundle.manifest.graphs
    files = {graph.io: graph.file for graph in graphs if graph.precision == precision}
    return next(((bundle.path / files[io], io) for io in FORMS if io in files), None)


def _as_profiles(plan: SuitePlan) -> list[str]:
    return [f"{h}x{w}@{batch}" for (h, w), batch in product(plan.sizes, plan.batches)]


def _prefixed(progress: Callable[[str], None], what: str) -> Callable[[str], None]:
    return lambda line: progress(f"{what}: {line}")
