"""Profile a bundle with a backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.benchmarks.profile.onnxruntime_trace import trace_graph
from maxim_deploy.benchmarks.profile.profile import LayerProfile, NodeTimes, grouped
from maxim_deploy.errors import BundleError, UsageError, check_known
from maxim_deploy.imaging import Padding
from maxim_deploy.machine.facts import environment
from maxim_deploy.spec.engines import engine_for
from maxim_deploy.spec.manifest import Bundle
from maxim_deploy.spec.precision import CPU_PRECISIONS
from maxim_deploy.spec.profiles import Shape

BACKENDS = ("onnxruntime", "tensorrt", "tensorrt-rtx")
"""That can be profiled. Not onnxruntime-cuda: what its profile has for a node is the time that the
CPU takes to launch it."""

FORMS = ("tensor", "image")
"""Best first, as the runtime takes them."""


class _Measured(NamedTuple):
    nodes: list[NodeTimes]
    wall_ms: Sequence[float]
    plain_ms: Sequence[float]
    library: str
    device: str


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
    """Where the time of one run of the network goes.

    Args:
        bundle: with a graph, or an engine of the backend, of this precision.
        precision: of `PRECISIONS`.
        size: height and width of the picture; the tensor form pads it to multiples of 64.
        backend: one of `BACKENDS`.
        threads: of the CPU; None for one per core.
        batch: pictures per run.
        io: form of the graph; None for the tensor form, or else the image form.
        runs: to take the fastest of.
        warmup: runs before.

    Raises:
        UsageError: the backend cannot be profiled, or cannot run the precision.
        BundleError: the bundle has no such graph or engine, or a file of it has changed.
        MissingDependencyError, BackendError: the backend does not work here.
    """
    _check(backend, precision)
    measured, form = _measured(bundle, precision, size, backend, threads, batch, io, runs, warmup)
    # TensorRT's profiler hears layers only: the whole is their sum.
    by_node = [node.ms for node in measured.nodes]
    walls = list(measured.wall_ms) or [sum(run) for run in zip(*by_node, strict=True)]
    wall = min(walls)
    groups, unattributed = grouped(measured.nodes, walls.index(wall))
    in_nodes = sum(group.ms for group in groups) + unattributed
    return LayerProfile(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.model.name,
        architecture=str(bundle.manifest.architecture),
        backend=backend,
        library=measured.library,
        device=measured.device,
        precision=precision,
        io=form,
        size=size,
        batch=batch,
        threads=threads,
        environment=environment(),
        runs=runs,
        wall_ms=wall,
        plain_ms=min(measured.plain_ms, default=None),
        groups=groups,
        unattributed_ms=unattributed,
        between_ms=wall - in_nodes,
    )


def _check(backend: str, precision: str) -> None:
    if backend == "onnxruntime-cuda":
        raise UsageError(
            "onnxruntime-cuda cannot be profiled by block: its node times are those of the CPU "
            f"that launches the kernels; take one of {', '.join(BACKENDS)}"
        )
    check_known("backend", backend, BACKENDS)
    if backend == "onnxruntime" and precision not in CPU_PRECISIONS:
        raise UsageError(f"a CPU runs no {precision}; choose {', '.join(CPU_PRECISIONS)}")


def _measured(
    bundle: Bundle,
    precision: str,
    size: tuple[int, int],
    backend: str,
    threads: int | None,
    batch: int,
    io: str | None,
    runs: int,
    warmup: int,
) -> tuple[_Measured, str]:
    """(what was measured, the form it ran in)."""
    if backend == "onnxruntime":
        entry = bundle.graph(precision, io or _form(bundle, precision))
        graph = bundle.checked_graph(entry)
        image = random_image(_shape(size, batch, entry.io), entry.io)
        trace = trace_graph(graph, image, runs=runs, warmup=warmup, threads=threads)
        return _Measured(trace.nodes, trace.wall_ms, trace.plain_ms, trace.library, "cpu"), entry.io
    for form in (io,) if io else FORMS:
        wanted = {"library": backend, "precision": precision, "io": form}
        found = engine_for(bundle.manifest.engines, _shape(size, batch, form), **wanted)
        if found:
            return _with_engine(bundle, found, size, batch, runs, warmup), form
    raise BundleError(
        f"bundle {str(bundle.path)!r} has no {precision} engine of {backend} for "
        f"{Shape(batch, *size)}; build one: maxim-export -o {bundle.path} --engine {backend} "
        f"--precision {precision} --profile {size[0]}x{size[1]}"
    )


def random_image(shape: Shape, io: str) -> NDArray[Any]:
    """An input of a form, the same every time."""
    values = np.random.default_rng(0).random(shape.dims(io), np.float32)
    return (values * 255).astype(np.uint8) if io == "image" else values


def _form(bundle: Bundle, precision: str) -> str:
    have = [entry.io for entry in bundle.manifest.graphs if entry.precision == precision]
    return next((form for form in FORMS if form in have), FORMS[0])


def _shape(size: tuple[int, int], batch: int, io: str) -> Shape:
    if io == "image":
        return Shape(batch, *size)
    padding = Padding(*size)
    return Shape(batch, padding.padded_height, padding.padded_width)


def _with_engine(
    bundle: Bundle,
    found: tuple[Any, int],
    size: tuple[int, int],
    batch: int,
    runs: int,
    warmup: int,
) -> _Measured:
    from maxim_deploy.benchmarks.profile.tensorrt_layers import (
        layer_times,
        listed_layers,
        nodes_of_layers,
    )
    from maxim_deploy.runtime.cuda import open_cuda
    from maxim_deploy.runtime.tensorrt_engines import (
        acquire_engine,
        library_name,
        release_engine,
    )

    entry, index = found
    # TensorRT for RTX would capture graphs by itself, in which no layer has a time.
    entry = replace(entry, runtime=entry.runtime | {"cuda_graphs": "off"})
    image = random_image(_shape(size, batch, entry.io), entry.io)
    cuda = open_cuda()
    shared = acquire_engine(bundle, entry, cuda)
    try:
        times = layer_times(shared, cuda, (index, image.shape), image, warmup + runs)[warmup:]
        library, device = library_name(shared.trt, entry), f"cuda:{cuda.device} {shared.gpu.name}"
    finally:
        release_engine(shared)
    graph = bundle.path / bundle.graph(entry.precision, entry.io).file
    nodes = nodes_of_layers(times, listed_layers(bundle.path / entry.file), Path(graph))
    return _Measured(nodes, [], [], library, device)
