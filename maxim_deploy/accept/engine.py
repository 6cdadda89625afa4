"""Engines for steps: what to build, a bundle to build into, and a single engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.accept.step import SMALL, Setting, in_form, picture
from maxim_deploy.benchmarks.timing import turn
from maxim_deploy.benchmarks.workload import by_wall
from maxim_deploy.engines.engine_file import BuildOptions
from maxim_deploy.engines.store import add_engine
from maxim_deploy.errors import BundleError
from maxim_deploy.runtime.cuda import Cuda
from maxim_deploy.runtime.request import FORMS
from maxim_deploy.runtime.tensorrt_backend import TensorRtBackend
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_settings import engine_settings_from
from maxim_deploy.spec.engines import ENGINE_FOLDER, EngineEntry, engine_for
from maxim_deploy.spec.precision import GPU_PRECISIONS
from maxim_deploy.spec.profiles import Shape

PROFILE = "64x64:1088x1920:1088x1920"
"""Profile for the pictures of all steps, padded as the tensor form needs them."""

FIXED = "256x256"
"""Profile of additional engines: one shape, so that a build is short."""

TIMED_S = 1.0


def build(bundle: Path, library: str, profile: str, **settings: Any) -> EngineEntry:
    """Build an engine of the same form as the bundle's engines, or of its best graph.

    An engine of another form would not be run: a backend uses engines of one form only.

    Args:
        bundle: folder of the bundle.
        library: library that builds the engine.
        profile: SPEC of its profile.
        settings: other keys of a recipe; `options`, a `BuildOptions`.

    Raises:
        BundleError: the bundle has no graph.
        UsageError, MissingDependencyError, EngineError: as `add_engine`.
    """
    options = settings.pop("options", BuildOptions())
    manifest = Bundle.open(bundle).manifest
    engines = [(one.precision, one.io) for one in manifest.engines if one.library == library]
    have = engines or [(graph.precision, graph.io) for graph in manifest.graphs]
    forms = FORMS if engines else FORMS[::-1]
    best = [(p, io) for p in GPU_PRECISIONS for io in forms if (p, io) in have]
    if not best:
        raise BundleError(f"bundle {str(bundle)!r} has no graph to build an engine from")
    asked = {"library": library, "profiles": [profile], "precision": best[0][0], "io": best[0][1]}
    return add_engine(bundle, engine_settings_from(asked | settings), options)[0]


@contextmanager
def bundle_without_engines(setting: Setting) -> Iterator[Path]:
    """Yield a copy of the bundle to build into, so that other steps do not run its engines."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(setting.bundle, copy, ignore=shutil.ignore_patterns(ENGINE_FOLDER))
        bundle = Bundle.open(copy)
        Bundle(copy, replace(bundle.manifest, engines=[])).write()
        yield copy


@contextmanager
def engine_backend(
    setting: Setting, cuda: Cuda, **runtime: Any
) -> Iterator[tuple[TensorRtBackend, NDArray[Any]]]:
    """Yield (the engine for pictures of 256x256, a picture of this size in the engine's form).

    Args:
        setting: the bundle and the library.
        cuda: the GPU to run on.
        runtime: settings of the runtime that replace those of the manifest.

    Raises:
        BundleError: the bundle has no such engine.
        BackendError: the engine does not run here.
    """
    bundle, shape = Bundle.open(setting.bundle), Shape(1, *SMALL)
    found = engine_for(bundle.manifest.engines, shape, library=setting.backend)
    if found is None:
        raise BundleError(f"the bundle has no engine of {setting.backend} for {shape}")
    entry = replace(found[0], runtime=found[0].runtime | runtime)
    backend = TensorRtBackend(bundle, entry, cuda)
    try:
        yield backend, in_form(picture(SMALL), entry.io)
    finally:
        backend.close()


def median_ms(run: Callable[[], object]) -> float:
    """Median wall time of a run in milliseconds, over about a second."""
    return median(one.wall_ms for one in turn(by_wall(run), TIMED_S))
