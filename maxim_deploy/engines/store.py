"""The engines of a bundle: reuse existing ones, and build each in one process only."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

from maxim_deploy._files import make_folder
from maxim_deploy._folders import read_whole, tidy, unreplaced
from maxim_deploy.engines.building import check_targets
from maxim_deploy.engines.engine_file import BuildOptions, EngineJob, make_engine
from maxim_deploy.engines.fixed_builds import count_traffic
from maxim_deploy.engines.identity import differences, identity_of, ingredients
from maxim_deploy.errors import BundleError, EngineError, UsageError
from maxim_deploy.machine.file_locks import file_lock, remove_unlocked
from maxim_deploy.machine.gpu import Gpu, find_gpu, no_gpu
from maxim_deploy.machine.tensorrt import load_library
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engine_settings import EngineSettings
from maxim_deploy.spec.engines import EngineEntry


def add_engine(
    folder: Path, settings: EngineSettings, options: BuildOptions | None = None
) -> tuple[EngineEntry, bool]:
    """Build an engine unless the bundle already has it.

    If two processes want the same engine, the second waits and uses the first one's.

    Args:
        folder: the bundle.
        settings: settings of the engine.
        options: options of the build.

    Returns:
        (its entry in the manifest, whether it was built now).

    Raises:
        BundleError: the folder is not a bundle, lacks the graph, or has changed files.
        UsageError: the library refuses a profile or target, or lacks an option.
        MissingDependencyError: the library is not installed.
        EngineError: the network is not as exported, the build failed or ran out of time, or writing
            failed.
    """
    options = options or BuildOptions()
    job = read_whole(folder, lambda: _job(Bundle.open(folder), settings, options))
    try:
        make_folder(job.folder)
        tidy(job.bundle.path)
        tidy(job.folder)
        remove_unlocked(job.folder)
        with _locked(job):
            # Checked under the lock: another process may have built it meanwhile.
            stored = _find_stored(job)
            entry = stored or make_engine(job)
            if not stored:
                _put_into_manifest(job, entry)
            # The manifest already has the engine, which stays if a further build fails.
            if job.options.traffic and entry.traffic_of(0) is None:
                built = replace(entry.built, traffic=count_traffic(job, entry))
                entry = replace(entry, built=built)
                _put_into_manifest(job, entry)
            return entry, stored is None
    except OSError as error:
        raise EngineError(f"cannot write the engine into {str(job.folder)!r}: {error}") from error


def check_buildable(
    settings: EngineSettings, options: BuildOptions
) -> tuple[ModuleType, Gpu | None, str | None]:
    """Check all that needs no bundle.

    Returns:
        (the library's module, the GPU of this machine, the GPU that the engine is for if it is for
        one).

    Raises:
        UsageError: the library refuses a target, or lacks an option.
        MissingDependencyError: the library is not installed.
        EngineError: there is no GPU to build for.
    """
    trt, gpu = load_library(settings.library), find_gpu()
    if options.timing_cache is not None and is_portable(settings.library):
        raise UsageError(
            "TensorRT for RTX measures no kernels at build time, so a timing cache has no effect "
            "(deprecated since 1.2). Omit it; the runtime keeps compiled kernels cache"
        )
    if is_portable(settings.library):
        check_targets(trt, settings.targets)
    return trt, gpu, _gpu_to_build_for(settings, gpu)


def _job(bundle: Bundle, settings: EngineSettings, options: BuildOptions) -> EngineJob:
    """Make all quick checks, including the hashes of graph and weights."""
    graph = bundle.graph(settings.precision, settings.io)
    bundle.require_export_record()  # the build extends it
    trt, gpu, for_gpu = check_buildable(settings, options)
    bundle.checked_graph(graph)
    # Before the identity, which uses the recorded hashes: the files must match them.
    made_of = ingredients(bundle, graph, settings, trt.__version__, for_gpu)
    return EngineJob(bundle, graph, settings, options, trt, gpu, made_of, identity_of(made_of))


def _gpu_to_build_for(settings: EngineSettings, gpu: Gpu | None) -> str | None:
    """The GPU of this machine if the engine is for it; None for other targets."""
    if not settings.for_this_gpu:
        return None
    if gpu is None:
        raise EngineError(
            f"{settings.library} builds for the GPU of this machine, but {no_gpu()}. Build on the "
            "machine that will run the engine, or use tensorrt-rtx, which builds anywhere for "
            "named compute capabilities"
        )
    return f"{gpu.name}, {gpu.compute_capability}"


def _locked(job: EngineJob) -> AbstractContextManager[None]:
    """A lock between processes that build the same engine."""
    path = job.folder / f".{job.identity[:16]}.lock"
    say = partial(job.options.progress, "waiting for another process that builds this engine")
    return file_lock(path, say)


def _find_stored(job: EngineJob) -> EngineEntry | None:
    """The engine, if the bundle has it whole. Its runtime settings are updated."""
    # Read again: another process may have added engines since the job was made.
    engines = Bundle.open(job.bundle.path).manifest.engines
    found = next((entry for entry in engines if entry.identity == job.identity), None)
    if found is None:
        _say_what_differs(job, engines)
        return None
    try:
        job.bundle.checked_engine(found)
    except BundleError as error:
        job.options.progress(f"{error}; doing so now")
        return None
    if found.runtime != job.settings.for_runtime():
        found = replace(found, runtime=job.settings.for_runtime())
        _put_into_manifest(job, found)
    return found


def _say_what_differs(job: EngineJob, engines: list[EngineEntry]) -> None:
    """Report how the most similar engine with the same profiles differs."""
    compared = [
        (differences(entry.made_of, job.made_of), entry.file)
        for entry in engines
        if entry.made_of.get("profiles") == job.made_of["profiles"]
    ]
    if compared:
        differing, file = min(compared, key=lambda found: len(found[0]))
        job.options.progress(f"{file} is another engine ({'; '.join(differing)})")


def _put_into_manifest(job: EngineJob, entry: EngineEntry) -> None:
    """Put the entry into the manifest, replacing one of the same identity.

    Raises:
        EngineError: the bundle was replaced by one with other graphs.
        BundleError: the bundle was replaced by one without the engine's file.
    """
    with unreplaced(job.bundle.path), file_lock(job.folder / ".manifest.lock"):
        # Read again under the lock: other engines may have been added meanwhile.
        bundle = Bundle.open(job.bundle.path)
        if problems := bundle.mismatches(entry):
            raise EngineError(f"{entry.file!r} | the bundle was replaced | {'; '.join(problems)}")
        bundle.checked_engine(entry)  # a bundle with the same graphs may have replaced this one
        engines = {one.identity: one for one in bundle.manifest.engines} | {entry.identity: entry}
        manifest = replace(bundle.manifest, engines=[*engines.values()])
        Bundle(bundle.path, manifest).write()
