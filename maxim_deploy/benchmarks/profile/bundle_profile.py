"""Profile a bundle with a backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.benchmarks.profile.onnxruntime_trace import trace_graph
from maxim_deploy.benchmarks.profile.profile import LayerProfile, NodeTimes, grouped
from maxim_deploy.benchmarks.workload import input_shape
from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.machine.facts import environment
from maxim_deploy.runtime.registry import BACKENDS, backend_named
from maxim_deploy.runtime.request import FORMS
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engines import EngineEntry, engine_for
from maxim_deploy.spec.precision import CPU_PRECISIONS
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.traffic import Traffic


class ProfileRequest(NamedTuple):
    """Arguments of a profile; see `profile_bundle`."""

    bundle: Bundle
    backend: str
    precision: str
    size: tuple[int, int]
    batch: int
    io: str | None
    threads: int | None
    runs: int
    warmup: int

    def shape(self, io: str) -> Shape:
        """Shape of the input of a graph in a form."""
        return input_shape(self.size, self.batch, io)


class Measured(NamedTuple):
    """Measurements of a profiler.

    Attributes:
        nodes: nodes, each with its times in all runs.
        wall_ms: milliseconds of each run; empty if a run takes the sum of its nodes.
        plain_ms: milliseconds of each run without the profiler; empty without such runs.
        library: library that ran, with its version.
        device: device that it ran on.
        io: form of the graph or engine.
        traffic: traffic of the engine with this profile, or else of its own list of layers.
    """

    nodes: list[NodeTimes]
    wall_ms: Sequence[float]
    plain_ms: Sequence[float]
    library: str
    device: str
    io: str
    traffic: Traffic | None = None


def profile_bundle(
    bundle: Bundle,
    precision: str,
    size: tuple[int, int],
    backend: str = "onnxruntime",
    threads: int | None = None,
    *,
    batch: int = 1,
    io: str | None = None,
    runs: int = 7,
    warmup: int = 2,
) -> LayerProfile:
    """Measure the time of one run of the network, by block.

    Args:
        bundle: bundle with a graph, or an engine of the backend, in this precision.
        precision: name in `PRECISIONS`.
        size: height and width of the picture; the tensor form pads it to multiples of 64.
        backend: backend with a profiler in `maxim_deploy.runtime.registry`.
        threads: CPU threads; None for one per core.
        batch: pictures per run.
        io: form of the graph; None for the tensor form, or else the image form.
        runs: runs for the median.
        warmup: runs before them.

    Raises:
        UsageError: the backend cannot be profiled, or cannot run the precision.
        BundleError: the bundle has no such graph or engine, or a file of it has changed.
        MissingDependencyError, BackendError: the backend does not work here.
    """
    asked = ProfileRequest(bundle, backend, precision, size, batch, io, threads, runs, warmup)
    measured = _measured(asked)
    # TensorRT's profiler reports only layers, so a run is their sum.
    by_node = [node.ms for node in measured.nodes]
    walls = list(measured.wall_ms) or [sum(run) for run in zip(*by_node, strict=True)]
    wall = median(walls)
    groups, unattributed = grouped(measured.nodes)
    in_nodes = sum(group.ms for group in groups) + unattributed
    return LayerProfile(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.model.name,
        architecture=str(bundle.manifest.architecture),
        backend=backend,
        library=measured.library,
        device=measured.device,
        precision=precision,
        io=measured.io,
        size=size,
        batch=batch,
        threads=threads,
        environment=environment(),
        runs=runs,
        wall_ms=wall,
        plain_ms=median(measured.plain_ms) if measured.plain_ms else None,
        groups=groups,
        unattributed_ms=unattributed,
        between_ms=wall - in_nodes,
        traffic=measured.traffic,
    )


def _measured(asked: ProfileRequest) -> Measured:
    spec = backend_named(asked.backend)
    if spec.profiler is None:
        why = f": {spec.no_profiler}" if spec.no_profiler else ""
        known = ", ".join(other.name for other in BACKENDS if other.profiler)
        raise UsageError(f"{spec.name} | cannot be profiled by block{why} | choose {known}")
    measured: Measured = spec.call("profiler", asked)
    return measured


def measure_graph(asked: ProfileRequest) -> Measured:
    """Measure a graph in ONNX Runtime on the CPU."""
    if asked.precision not in CPU_PRECISIONS:
        raise UsageError(
            f"a CPU does not run {asked.precision}; choose {', '.join(CPU_PRECISIONS)}"
        )
    bundle, have = asked.bundle, {(g.precision, g.io) for g in asked.bundle.manifest.graphs}
    form = asked.io or next((io for io in FORMS if (asked.precision, io) in have), FORMS[0])
    entry = bundle.tuned(bundle.graph(asked.precision, form), asked.backend)
    with bundle.private_graph(entry) as path:
        trace = trace_graph(
            path,
            random_image(asked.shape(form), form),
            runs=asked.runs,
            warmup=asked.warmup,
            threads=asked.threads,
        )
    return Measured(trace.nodes, trace.wall_ms, trace.plain_ms, trace.library, "cpu", form)


def measure_engine(asked: ProfileRequest) -> Measured:
    """Measure an engine with the library's profiler, which reports layers only."""
    bundle, wanted = asked.bundle, {"library": asked.backend, "precision": asked.precision}
    for form in (asked.io,) if asked.io else FORMS:
        found = engine_for(bundle.manifest.engines, asked.shape(form), **wanted, io=form)
        if found:
            return _with_engine(asked, *found)
    size = asked.size
    raise BundleError(
        f"bundle {str(bundle.path)!r} has no {asked.precision} engine of {asked.backend} for "
        f"{Shape(asked.batch, *size)}; build one: maxim-export -o {bundle.path} --engine "
        f"{asked.backend} --precision {asked.precision} --profile {size[0]}x{size[1]}"
    )


def random_image(shape: Shape, io: str) -> NDArray[Any]:
    """An input of a form, the same every time."""
    values = np.random.default_rng(0).random(shape.dims(io), np.float32)
    return (values * 255).astype(np.uint8) if io == "image" else values


def _with_engine(asked: ProfileRequest, entry: EngineEntry, index: int) -> Measured:
    from maxim_deploy.benchmarks.profile.tensorrt_layers import layer_times, nodes_of_layers
    from maxim_deploy.engines.layers import layers_beside
    from maxim_deploy.runtime.cuda import open_cuda
    from maxim_deploy.runtime.tensorrt_engines import (
        acquire_engine,
        library_name,
        release_engine,
    )

    # TensorRT for RTX would capture graphs by itself, whose layers have no times. It would also run
    # its fallback during compilation.
    measured = {"cuda_graphs": "off", "specialization": "eager"}
    entry = replace(entry, runtime=entry.runtime | measured)
    bundle, image = asked.bundle, random_image(asked.shape(entry.io), entry.io)
    cuda = open_cuda()
    shared = acquire_engine(bundle, entry, cuda)
    try:
        times = layer_times(shared, cuda, (index, image.shape), image, asked.warmup + asked.runs)
        library, device = library_name(shared.trt, entry), f"cuda:{cuda.device} {shared.gpu.name}"
    finally:
        release_engine(shared)
    layers = layers_beside(bundle.path / entry.file)
    nodes = nodes_of_layers(times[asked.warmup :], layers)
    traffic = entry.traffic_of(index) or next(iter(entry.built.traffic), None)
    return Measured(nodes, [], [], library, device, entry.io, traffic)
