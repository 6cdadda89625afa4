"""Build an engine to disk and make its manifest entry."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from maxim_deploy._files import atomic_file, sha256_of, write_text
from maxim_deploy._progress import Progress
from maxim_deploy.engines.budget import build_within
from maxim_deploy.engines.build_monitor import BuildStep
from maxim_deploy.engines.building import BuiltEngine, build_engine
from maxim_deploy.engines.layers import layers_from_log, layers_to_json
from maxim_deploy.engines.messages import log_text, memory_figures
from maxim_deploy.engines.network import check_network, islands_of
from maxim_deploy.engines.timing_cache import TimingCacheFile
from maxim_deploy.engines.traffic import traffic_as_built
from maxim_deploy.errors import EngineError
from maxim_deploy.machine.gpu import Gpu
from maxim_deploy.machine.tensorrt import ParsedGraph, parse_graph
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engine_settings import EngineSettings
from maxim_deploy.spec.engines import ENGINE_FOLDER, PORTABLE, EngineEntry
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.precision import FULL
from maxim_deploy.spec.profiles import overlapping


@dataclass(frozen=True)
class BuildOptions:
    """Options of the build that do not change the engine.

    Attributes:
        budget_s: limit of a build in seconds, or None.
        timing_cache: timing cache to use and extend, or None. Full TensorRT only.
        traffic: whether to count traffic, which needs another build for most profiles.
        progress: called with each step in words.
        step_progress: called with each step of the builder, in its threads.
    """

    budget_s: float | None = None
    timing_cache: Path | None = None
    traffic: bool = False
    progress: Progress = lambda _: None
    step_progress: Callable[[BuildStep], None] = lambda _: None


@dataclass(frozen=True)
class EngineJob:
    """A build of one engine.

    Attributes:
        bundle: bundle of the engine.
        graph: graph to build from. Its files have been checked.
        settings: settings of the engine.
        options: options of the build.
        trt: the library's module.
        gpu: the GPU at hand, or None.
        made_of: ingredients of the engine.
        identity: hash of the ingredients.
    """

    bundle: Bundle
    graph: GraphEntry
    settings: EngineSettings
    options: BuildOptions
    trt: ModuleType
    gpu: Gpu | None
    made_of: dict[str, Any]
    identity: str

    @property
    def folder(self) -> Path:
        """Folder of engines."""
        return self.bundle.path / ENGINE_FOLDER


def make_engine(job: EngineJob) -> EngineEntry:
    """Parse, check, build and write an engine, with a log and a list of layers beside it.

    Raises:
        EngineError: the network is not as exported, the build failed, or it ran out of time. The
            library's messages are then in `engines/failed.log`.
    """
    progress = job.options.progress
    for first, second in overlapping(job.settings.profiles):
        progress(f"profiles {first} and {second} overlap; the tighter one runs the shared sizes")
    progress("parsing the graph")
    parsed = parsed_graph(job)
    check_network(parsed, job.graph.precision, job.graph.io, _islands(job))
    progress("building the engine")
    try:
        built = build_parsed(job, parsed)
    # Messages are the only trace of a failed build, and nothing else is written then.
    except EngineError:
        write_text(job.folder / "failed.log", log_text(parsed.logger.messages), follow=False)
        raise
    return _write(job, parsed, built)


def _islands(job: EngineJob) -> set[str]:
    if job.graph.precision == FULL:
        return set()
    return islands_of(job.bundle.read(f"{job.graph.precision}.table.json"))


def parsed_graph(job: EngineJob) -> ParsedGraph:
    """The job's graph as a network.

    Raises:
        BundleError: one of its files has changed.
        EngineError: the library refuses it.
    """
    with job.bundle.private_graph(job.graph) as path:
        parsed = parse_graph(job.trt, path)
    if parsed.errors:
        raise EngineError(f"{job.graph.file} | {'; '.join(parsed.errors)}")
    return parsed


def build_parsed(job: EngineJob, parsed: ParsedGraph) -> BuiltEngine:
    """Build within the budget, with the timing cache if there is one. Raises as `make_engine`."""
    settings, options = job.settings, job.options
    # A config makes the cache, and the cache outlives it: each attempt has its own config.
    caching = _timing_cache(job)
    config = parsed.builder.create_builder_config() if caching else None
    cache = caching.load(config) if caching else None

    attempt = partial(
        build_engine, parsed, settings, timing_cache=cache, progress=options.step_progress
    )
    if options.budget_s is None:
        built = attempt(settings.optimization_level)
    else:
        built = build_within(
            options.budget_s,
            settings.optimization_level,
            attempt,
            level_matters=not is_portable(settings.library),
            progress=options.progress,
        )
    if caching:
        caching.merge(config, cache)
    return built


def _timing_cache(job: EngineJob) -> TimingCacheFile | None:
    if job.options.timing_cache is None:
        return None
    assert job.gpu is not None  # `check_buildable` refuses a timing cache without one
    library = f"{job.settings.library} {job.trt.__version__}"
    return TimingCacheFile(job.options.timing_cache, library, job.gpu.name, job.options.progress)


def _write(job: EngineJob, parsed: ParsedGraph, built: BuiltEngine) -> EngineEntry:
    """Write the files. The engine comes last, whole or not at all."""
    path, messages = job.folder / _file_name(job), parsed.logger.messages
    layers, memory = layers_from_log(messages), memory_figures(messages)
    write_text(path.with_suffix(".log"), log_text(messages), follow=False)
    if layers:
        write_text(path.with_suffix(".layers.json"), layers_to_json(layers), follow=False)
    # Last, so an engine always has its log and layers.
    with atomic_file(path) as file:
        file.write(built.plan)
    digest = sha256_of(path)
    lowered = built.optimization_level != job.settings.optimization_level
    return EngineEntry(
        file=f"{ENGINE_FOLDER}/{path.name}",
        identity=job.identity,
        made_of=job.made_of,
        library=job.settings.library,
        version=job.trt.__version__,
        precision=job.graph.precision,
        io=job.graph.io,
        profiles=job.settings.profiles,
        targets=_targets(job),
        runtime=job.settings.for_runtime(),
        stripped=job.settings.strip_weights,
        sha256=digest,
        bytes=path.stat().st_size,
        optimization_level=built.optimization_level,
        memory=memory,
        parsed_layers=parsed.network.num_layers,
        layers=len(layers) or None,
        notes=["the optimization level was lowered to keep the budget"] if lowered else [],
        built=EngineRecord(
            sha256=digest,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            build_seconds=round(built.seconds, 1),
            built_on=_machine(job.gpu),
            traffic=traffic_as_built(layers, job.settings.profiles, memory.get("activation_bytes")),
        ),
    )


def _file_name(job: EngineJob) -> str:
    names = [profile.name.replace(":", "-") for profile in job.settings.profiles]
    shown = "+".join(names) if len(names) <= 3 else f"{len(names)}-profiles"
    stem, library = Path(job.graph.file).stem, job.settings.library
    # File systems allow names of 255 bytes. The identity alone makes the name unique.
    return f"{stem}.{library}.{shown[:80]}.{job.identity[:12]}.engine"


def _targets(job: EngineJob) -> tuple[str, ...]:
    settings = job.settings
    if settings.hardware_compatibility == "ampere-plus":
        return (PORTABLE,)
    if not settings.for_this_gpu:
        return settings.targets or (PORTABLE,)
    assert job.gpu is not None
    return (job.gpu.compute_capability,)


def _machine(gpu: Gpu | None) -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "gpu": gpu.name if gpu else None,
        "compute_capability": gpu.compute_capability if gpu else None,
        "cuda": gpu.cuda if gpu else None,
    }
