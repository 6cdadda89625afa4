"""The engines of a bundle: one that is there is used again, and no two processes build one."""

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
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engine_settings import EngineSettings
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.manifest import Bundle


def add_engine(
    folder: Path, settings: EngineSettings, options: BuildOptions | None = None
) -> tuple[EngineEntry, bool]:
    """Make sure that a bundle has an engine.

    Two processes that want the same engine build it once: the second waits, and finds it.

    Args:
        folder: the bundle.
        settings: what the engine is to be.
        options: how to build it.

    Returns:
        (its entry in the manifest, whether it was built now).

    Raises:
        BundleError: not a bundle, no such graph, or a file of it has changed.
        UsageError: a profile or target that the library refuses, an option that it does not have.
        MissingDependencyError: the library is not installed.
        EngineError: the network is not as exported, the build failed or ran out of time, or a file
            cannot be written.
    """
    options = options or BuildOptions()
    job = read_whole(folder, lambda: _job(Bundle.open(folder), settings, options))
    try:
        make_folder(job.folder)
        tidy(job.bundle.path)
        tidy(job.folder)
        remove_unlocked(job.folder)
        with _locked(job):
            # Under the lock: another process may have built it while this one waited.
            stored = _find_stored(job)
            entry = stored or make_engine(job)
            if not stored:
                _put_into_manifest(job, entry)
            # By now the manifest has the engine, which stays if a further build fails.
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
    """Everything that can be checked without a bundle.

    Returns:
        (the library's module, the GPU at hand, the one that the engine is for if it is for one).

    Raises:
        UsageError: a target that the library refuses, an option that it does not have.
        MissingDependencyError: the library is not installed.
        EngineError: there is no GPU to build for.
    """
    trt, gpu = load_library(settings.library), find_gpu()
    if options.timing_cache is not None and is_portable(settings.library):
        raise UsageError(
            "TensorRT for RTX measures no kernels at build time: a timing cache does nothing there "
            "(deprecated since 1.2). Omit it; what the GPU compiles is kept by the runtime "
            "cache"
        )
    if is_portable(settings.library):
        check_targets(trt, settings.targets)
    return trt, gpu, _gpu_to_build_for(settings, gpu)


def _job(bundle: Bundle, settings: EngineSettings, options: BuildOptions) -> EngineJob:
    """Check everything that is quick to check, the hashes of graph and weights included."""
    graph = bundle.graph(settings.precision, settings.io)
    bundle.require_export_record()  # the build adds to it
    trt, gpu, for_gpu = check_buildable(settings, options)
    bundle.checked_graph(graph)
    # Before the identity: it is made of the recorded hashes, which the files must have.
    made_of = ingredients(bundle, graph, settings, trt.__version__, for_gpu)
    return EngineJob(bundle, graph, settings, options, trt, gpu, made_of, identity_of(made_of))


def _gpu_to_build_for(settings: EngineSettings, gpu: Gpu | None) -> str | None:
    """The GPU at hand if the engine is for that; None if it is for others."""
    if not settings.for_this_gpu:
        return None
    if gpu is None:
        raise EngineError(
            f"{settings.library} would build for the GPU at hand, and {no_gpu()}. Build on "
            "the machine that will run it; tensorrt-rtx builds anywhere, for compute capabilities "
            "that you name"
        )
    return f"{gpu.name}, {gpu.compute_capability}"


def _locked(job: EngineJob) -> AbstractContextManager[None]:
    """A lock between processes that build the same engine."""
    path = job.folder / f".{job.identity[:16]}.lock"
    say = partial(job.options.progress, "another process builds this engine; waiting for it")
    return file_lock(path, say)


def _find_stored(job: EngineJob) -> EngineEntry | None:
    """The engine, if the bundle has it whole; its runtime settings are brought up to date."""
    # The manifest of now, not that of the job: another process may have added engines.
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
    """Name what keeps the most similar engine of the same profiles from being this one."""
    compared = [
        (differences(entry.made_of, job.made_of), entry.file)
        for entry in engines
        if entry.made_of.get("profiles") == job.made_of["profiles"]
    ]
    if compared:
        differing, file = min(compared, key=lambda found: len(found[0]))
        job.options.progress(f"{file} is another engine ({'; '.join(differing)})")


def _put_into_manifest(job: EngineJob, entry: EngineEntry) -> None:
    """Put the entry into the manifest, in place of one of the same identity.

    Raises:
        EngineError: the bundle was replaced by one of other graphs.
        BundleError: it was replaced by one without the engine's file.
    """
    with unreplaced(job.bundle.path), file_lock(job.folder / ".manifest.lock"):
        # Read again under its own lock: other engines may have been added since the job was made.
        bundle = Bundle.open(job.bundle.path)
        if problems := bundle.mismatches(entry):
            raise EngineError(f"{entry.file!r} | the bundle was replaced | {'; '.join(problems)}")
        bundle.checked_engine(entry)  # a bundle of the same graphs may have replaced this one
        engines = {one.identity: one for one in bundle.manifest.engines} | {entry.identity: entry}
        manifest = replace(bundle.manifest, engines=[*engines.values()])
        Bundle(bundle.path, manifest).write()
