"""From a job to an engine on disk and its entry in the manifest."""

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
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engine_settings import EngineSettings
from maxim_deploy.spec.engines import ENGINE_FOLDER, PORTABLE, EngineEntry
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.manifest import Bundle, GraphEntry
from maxim_deploy.spec.precision import FULL
from maxim_deploy.spec.profiles import overlapping


@dataclass(frozen=True)
class BuildOptions:
    """How to build, beyond what the engine is.

    Attributes:
        budget_s: seconds that a build may take, or None.
        timing_cache: file to use and extend, or None. Full TensorRT only.
        traffic: count what the layers move, which takes another build for most profiles.
        progress: told what is being done.
        step_progress: told about each step of the builder, from its threads.
    """

    budget_s: float | None = None
    timing_cache: Path | None = None
    traffic: bool = False
    progress: Progress = lambda _: None
    step_progress: Callable[[BuildStep], None] = lambda _: None


@dataclass(frozen=True)
class EngineJob:
    """One engine to make.

    Attributes:
        bundle: where it belongs.
        graph: what to build it from; its files have been checked.
        settings: what it is to be.
        options: how to build it.
        trt: the library's module.
        gpu: the GPU at hand, or None.
        made_of: its ingredients.
        identity: their hash.
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
        """Where engines go."""
        return self.bundle.path / ENGINE_FOLDER


def make_engine(job: EngineJob) -> EngineEntry:
    """Parse, check, build and write an engine, with its log and list of layers beside it.

    Raises:
        EngineError: the network is not as exported, or the build failed or ran out of time; the
            library's messages are then in `engines/failed.log`.
    """
    progress = job.options.progress
    for first, second in overlapping(job.settings.profiles):
        progress(f"profiles {first} and {second} overlap; the tighter one runs what both take")
    progress("parsing the graph")
    parsed = parsed_graph(job)
    check_network(parsed, job.graph.precision, job.graph.io, _islands(job))
    progress("building the engine")
    try:
        built = build_parsed(job, parsed)
    # Its messages are the only account of a build that failed, and nothing else is written then.
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
        BundleError: a file of it has changed by now.
        EngineError: the library refuses it.
    """
    with job.bundle.private_graph(job.graph) as path:
        parsed = parse_graph(job.trt, path)
    if parsed.errors:
        raise EngineError(f"{job.graph.file} | {'; '.join(parsed.errors)}")
    return parsed


def build_parsed(job: EngineJob, parsed: ParsedGraph) -> BuiltEngine:
    """Build within the budget, with the timing cache if there is one; raises as `make_engine`."""
    settings, options = job.settings, job.options
    # A cache is made by a config and outlives it: each attempt has a config of its own.
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
    """The engine comes last, whole or not at all."""
    path, messages = job.folder / _file_name(job), parsed.logger.messages
    layers, memory = layers_from_log(messages), memory_figures(messages)
    write_text(path.with_suffix(".log"), log_text(messages), follow=False)
    if layers:
        write_text(path.with_suffix(".layers.json"), layers_to_json(layers), follow=False)
    # Last, so that an engine never lies there without its log and layers.
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
        notes=["optimization level lowered to keep the budget"] if lowered else [],
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
    # File systems allow 255 bytes in a name; the identity alone makes it unique.
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
