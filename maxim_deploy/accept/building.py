"""Steps about engines: parsing, building, and each kind of engine that a recipe can describe."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.accept.engine import FIXED, PROFILE, build, bundle_without_engines
from maxim_deploy.accept.step import (
    SMALL,
    FaultError,
    Numbers,
    Setting,
    check_near,
    largest_difference,
    picture,
    settled,
)
from maxim_deploy.engines.engine_file import BuildOptions
from maxim_deploy.engines.inspection import inspect_bundle
from maxim_deploy.machine.tensorrt import load_library, parse_graph
from maxim_deploy.runtime import load
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engines import EngineEntry

BUDGET_S = 240.0

FAST = {"optimization_level": 1}
"""Settings of engines that are not timed. TensorRT builds them in seconds, not in minutes."""

KINDS: dict[str, tuple[dict[str, Any], ...]] = {
    "tensorrt": ({"version_compatible": True}, {"hardware_compatibility": "ampere-plus"}),
    "tensorrt-rtx": ({"targets": ["current"]},),
}
"""Settings by library of engines for other versions, for other GPUs, and for only this GPU."""


def parse_graphs(setting: Setting) -> Numbers:
    """Parse every graph of the bundle with the library's parser."""
    trt, bundle = load_library(setting.backend), Bundle.open(setting.bundle)
    layers: Numbers = {}
    for graph in bundle.manifest.graphs:
        with bundle.private_graph(graph) as path:
            parsed = parse_graph(trt, path)
        if parsed.errors:
            raise FaultError(f"{graph.file} | {'; '.join(parsed.errors)}", layers=layers)
        layers[graph.file] = parsed.network.num_layers
    return {"library": f"{setting.backend} {trt.__version__}", "layers": layers}


def build_engine_of_bundle(setting: Setting) -> Numbers:
    """Build the engine that the other steps run."""
    options = BuildOptions(budget_s=BUDGET_S)
    entry = build(Path(setting.bundle), setting.backend, PROFILE, options=options)
    return {
        "library": f"{entry.library} {entry.version}",
        "build_s": entry.built.build_seconds,
        "engine_bytes": entry.bytes,
        "optimization_level": entry.optimization_level,
        **entry.memory,
    }


def list_layers(setting: Setting) -> Numbers:
    """Check the list of layers that is stored beside the engine."""
    entry = _built(setting)
    report = inspect_bundle(Path(setting.bundle), layers=True)
    (engine,) = [one for one in report["engines"] if one["file"] == entry.file]
    types = engine["layer_types"]
    if not types:
        raise FaultError(f"{entry.file} | lists no layers | expected each with its types")
    return {"layers": len(engine["listed_layers"]), "types": types}


def _built(setting: Setting) -> EngineEntry:
    engines = Bundle.open(setting.bundle).manifest.engines
    return next(one for one in engines if one.library == setting.backend)


def refit_weights(setting: Setting) -> Numbers:
    """Build an engine without weights; refitted, its result must equal that of one with weights."""
    with bundle_without_engines(setting) as bundle:
        entry = build(bundle, setting.backend, FIXED, strip_weights=True, **FAST)
        refitted = _restored(bundle, setting)
    with bundle_without_engines(setting) as bundle:
        whole = build(bundle, setting.backend, FIXED, **FAST)
        expected = _restored(bundle, setting)
    numbers = {"stripped_bytes": entry.bytes, "whole_bytes": whole.bytes}
    if entry.bytes >= whole.bytes:
        raise FaultError("an engine without weights | is no smaller than one with", **numbers)
    check_near(refitted, expected, whole.precision, "engines refitted and whole", **numbers)
    return numbers


def keep_timings(setting: Setting) -> Numbers:
    """Build the same engine twice with a timing cache, which the first build must create."""
    with tempfile.TemporaryDirectory() as folder:
        options = BuildOptions(timing_cache=Path(folder) / "timing.cache")
        times, sizes = [], []
        for _ in range(2):
            with bundle_without_engines(setting) as bundle:
                entry = build(bundle, setting.backend, FIXED, options=options, **FAST)
            times.append(entry.built.build_seconds)
            file = options.timing_cache
            sizes.append(file.stat().st_size if file and file.exists() else 0)
    numbers = {"cache_bytes": sizes[-1], "first_s": times[0], "second_s": times[1]}
    if not all(sizes):
        raise FaultError("timing cache | the build saved none", **numbers)
    return numbers


def build_for_others(setting: Setting) -> Numbers:
    """Build engines for other versions and other GPUs; their results here must be the same."""
    numbers: Numbers = {}
    expected = _restored(Path(setting.bundle), setting)
    for settings in KINDS[setting.backend]:
        (name,) = settings
        with bundle_without_engines(setting) as bundle:
            entry = build(bundle, setting.backend, FIXED, **FAST, **settings)
            restored = _restored(bundle, setting)
        numbers |= {
            f"{name}_bytes": entry.bytes,
            f"{name}_levels": largest_difference(restored, expected),
        }
        what = f"engines with {name} and without"
        check_near(restored, expected, entry.precision, what, **numbers)
    return numbers


def _restored(bundle: Path, setting: Setting) -> NDArray[np.uint8]:
    """Restore a picture on a bundle's engine, once its results no longer change."""
    image = picture(SMALL)
    # The engine's host code is trusted, because it was built here just before.
    with load(bundle, backend=setting.backend, allow_host_code=True) as restorer:
        (restored,) = settled(lambda: [restorer(image)])
    return restored
