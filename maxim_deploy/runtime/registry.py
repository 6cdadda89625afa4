"""The table of backends: the only place that lists them.

Ours are the rows of `BACKENDS`. Others come from installed distributions, by the entry points
`maxim_deploy.backends`, or from `register_backend`. A row names functions as "module:function":
they are imported when they are called, so that the runtime needs no library before a backend is
opened, and a row may name a room above the runtime.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from maxim_deploy._optional import has_extra, not_installed
from maxim_deploy.errors import (
    BackendError,
    MaximDeployError,
    UsageError,
    unknown,
)
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.verdict import Verdict
from maxim_deploy.spec.engine_libraries import ENGINE_LIBRARIES
from maxim_deploy.spec.precision import CPU_PRECISIONS, GPU_PRECISIONS

ENTRY_POINTS = "maxim_deploy.backends"
"""Group of the entry points. Each names a `BackendSpec` of the same name."""

Opener = Callable[[Request], Backend]
GraphOpener = Callable[[Path, str, int, int | None], Backend]
Probe = Callable[[Verdict, NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class BackendSpec:
    """What is known of a backend before it is opened.

    Functions are given as such, or as "module:function" to import them when they are called.

    Attributes:
        name: as `load` and `--backend` take it; no dot, which separates a precision from it.
        opener: from a `Request` to a `Backend`. What it raises, `load` raises.
        label: its name in reports; the plain name if empty.
        device: "gpu" for an NVIDIA GPU by CUDA. Anything else is fed from host memory.
        runs: which part of a bundle.
        is_automatic: whether "auto" may take it; of our own rows, those before it are better.
        compiles_sizes: whether it compiles the network for each size, so that "auto" takes it only
            for work that repeats sizes.
        extra: of this package, that installs what it needs.
        package: that has its library, as pip knows it.
        probe: for `maxim-doctor`: runs `maxim_deploy.machine.tiny_graph.TINY_GRAPH` on float32
            `[1, 3, 4, 4]` and returns the result. It may note on the verdict what it found out on
            its way. Without one, nothing is tried but importing the opener.
        graph_opener: from an ONNX file of the tensor form, its precision, an index of a GPU and a
            number of threads to a `Backend`: for graphs that are in no bundle.
        profiler: from a `maxim_deploy.benchmarks.profile.bundle_profile.ProfileRequest` to a
            `Measured`: the time of every node.
        no_profiler: why there is none, in words.
        distribution: that it comes from, if it is not ours.
    """

    name: str
    opener: Opener | str
    label: str = ""
    device: str = "cpu"
    runs: Literal["graphs", "engines", "weights"] = "graphs"
    is_automatic: bool = False
    compiles_sizes: bool = False
    extra: str | None = None
    package: str | None = None
    probe: Probe | str | None = None
    graph_opener: GraphOpener | str | None = None
    profiler: Callable[[Any], Any] | str | None = None
    no_profiler: str = ""
    distribution: str | None = None

    @property
    def is_on_gpu(self) -> bool:
        """Whether it runs on an NVIDIA GPU."""
        return self.device == "gpu"

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those to try, the fastest first."""
        return GPU_PRECISIONS if self.is_on_gpu else CPU_PRECISIONS

    def open(self, request: Request) -> Backend:
        """A backend on what was asked for.

        Raises:
            MissingDependencyError: what it needs is not installed; the message is the pip line.
            UsageError, BundleError, BackendError: it cannot run this, or not here.
        """
        backend: Backend = self.call("opener", replace(request, backend=self.name))
        return backend

    def call(self, role: str, *arguments: Any) -> Any:
        """Call the function that is this attribute, imported if need be.

        Raises:
            MissingDependencyError: a module that it needs is not installed.
            BackendError: it is not ours, and fails in a way that we do not know.
        """
        try:
            return self.function(role)(*arguments)
        except MaximDeployError:
            raise
        except Exception as error:
            if self.distribution is None:
                raise
            raise BackendError(_blamed(self.name, self.distribution, error)) from error

    def function(self, role: str) -> Callable[..., Any]:
        """The function that is this attribute, imported if need be; raises as `call`."""
        named: Callable[..., Any] | str = getattr(self, role)
        if not isinstance(named, str):
            return named
        module, _, function = named.partition(":")
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as error:
            # One of our own modules that is missing is a broken install, not a missing extra.
            if self.extra is None or not error.name or error.name.startswith("maxim_deploy"):
                raise
            raise not_installed(error.name, self.extra) from error
        return found


# fmt: off
BACKENDS: tuple[BackendSpec, ...] = (
    *(
        BackendSpec(
            name, "maxim_deploy.runtime.tensorrt_backend:open_engines", library.label,
            device="gpu", runs="engines", is_automatic=True, extra=library.extra, package=name,
            probe="maxim_deploy.runtime.tensorrt_probe:run_tiny_graph",
            profiler="maxim_deploy.benchmarks.profile.bundle_profile:measure_engine",
        )
        for name, library in ENGINE_LIBRARIES.items()
    ),
    BackendSpec(
        "onnxruntime-cuda", "maxim_deploy.runtime.onnxruntime_cuda:open_backend",
        "ONNX Runtime, CUDA", device="gpu", is_automatic=True, extra="gpu",
        package="onnxruntime-gpu", probe="maxim_deploy.runtime.onnxruntime_cuda:run_tiny_graph",
        graph_opener="maxim_deploy.runtime.onnxruntime_cuda:open_graph",
        no_profiler="its node times are those of the CPU that launches the kernels",
    ),
    BackendSpec(
        "openvino", "maxim_deploy.runtime.openvino_backend:open_backend", "OpenVINO, CPU",
        is_automatic=True, compiles_sizes=True, extra="openvino", package="openvino",
        probe="maxim_deploy.runtime.openvino_backend:run_tiny_graph",
        no_profiler="it runs several nodes as one",
    ),
    BackendSpec(
        "onnxruntime", "maxim_deploy.runtime.onnxruntime_backend:open_backend",
        "ONNX Runtime, CPU", is_automatic=True, extra="cpu", package="onnxruntime",
        probe="maxim_deploy.runtime.onnxruntime_backend:run_tiny_graph",
        graph_opener="maxim_deploy.runtime.onnxruntime_backend:open_graph",
        profiler="maxim_deploy.benchmarks.profile.bundle_profile:measure_graph",
    ),
    # For comparison, so "auto" never takes it.
    BackendSpec(
        "torch", "maxim_deploy.parity.torch_backend:open_backend", "PyTorch eager",
        runs="weights", extra="export", package="torch",
    ),
)
# fmt: on
"""Ours, the best first."""

_registered: dict[str, BackendSpec] = {}


def register_backend(name: str, opener: Opener | str, **facts: Any) -> None:
    """Let `maxim_deploy.load(bundle, backend=name)` open a backend of your own in this process.

    Args:
        name: a new one.
        opener: from a `Request` to a `Backend`. What it raises, `load` raises.
        facts: other attributes of a `BackendSpec`.

    Raises:
        UsageError: the name is taken.

    Example:
        >>> from maxim_deploy.runtime.registry import backend_names, register_backend
        >>> register_backend("mine", lambda request: print(request.precision))
        >>> backend_names()[-1]
        'mine'
        >>> register_backend("torch", print)
        Traceback (most recent call last):
        maxim_deploy.errors.UsageError: there is a backend 'torch' already
    """
    if name in ("auto", *backend_names()):
        raise UsageError(f"there is a backend {name!r} already")
    _registered[name] = BackendSpec(name, opener, **facts)


def backend_names() -> tuple[str, ...]:
    """All names: ours, those of other distributions, and what was registered."""
    return (*(spec.name for spec in BACKENDS), *offered_names(), *_registered)


def offered_names() -> tuple[str, ...]:
    """The names that other distributions offer; nothing of theirs is imported.

    A name of ours stays ours.
    """
    ours = {spec.name for spec in BACKENDS}
    return tuple(name for name in _entry_points() if name not in ours)


def automatic_backends() -> tuple[BackendSpec, ...]:
    """Those that "auto" may take, the best first. Others' backends are taken by name only."""
    return tuple(spec for spec in BACKENDS if spec.is_automatic)


def compared_backends() -> tuple[BackendSpec, ...]:
    """Those of `automatic_backends` that comparisons take unless told.

    What "auto" takes for some work only is there if it is installed: not having it is no fault.
    """
    return tuple(
        spec
        for spec in automatic_backends()
        if not spec.compiles_sizes or (spec.extra and has_extra(spec.extra))
    )


def chooses_by_work() -> bool:
    """Whether it matters to "auto" here how many pictures of which size there will be."""
    return any(spec.compiles_sizes for spec in compared_backends())


def graph_backend(*, on_gpu: bool) -> BackendSpec:
    """The backend that runs graphs which are in no bundle, on a GPU or on the CPU."""
    return next(s for s in BACKENDS if s.graph_opener and s.is_on_gpu == on_gpu)


def backend_named(name: str) -> BackendSpec:
    """The row of a backend.

    Raises:
        UsageError: there is no such backend; the message lists those there are.
        BackendError: it is another distribution's, whose entry point does not work.
    """
    for spec in (*BACKENDS, *_registered.values()):
        if spec.name == name:
            return spec
    if name in _entry_points():
        return _offered(name)
    raise UsageError(unknown("backend", name, ("auto", *backend_names())))


def backend_label(name: str) -> str:
    """The name of a backend for reports; the plain one where the backend is not installed."""
    try:
        return backend_named(name).label or name
    except MaximDeployError:
        return name


@functools.cache
def _entry_points() -> dict[str, list[metadata.EntryPoint]]:
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        found.setdefault(point.name, []).append(point)
    return found


def _offered(name: str) -> BackendSpec:
    points = _entry_points()[name]
    distribution = " and ".join(f"{p.dist.name} {p.dist.version}" for p in points if p.dist)
    if len(points) > 1:
        raise BackendError(f"backend {name!r} is offered by {distribution}; uninstall all but one")
    try:
        spec = points[0].load()
    except Exception as error:  # another distribution's module may raise anything
        raise BackendError(_blamed(name, distribution, error)) from error
    if not isinstance(spec, BackendSpec) or spec.name != name or "." in name:
        raise BackendError(
            f"backend {name!r} of {distribution} | {points[0].value} is {spec!r} | expected a "
            "BackendSpec of this name, which has no dot"
        )
    return replace(spec, distribution=distribution)


def _blamed(name: str, distribution: str, error: Exception) -> str:
    return f"backend {name!r} of {distribution} does not work: {type(error).__name__}: {error}"
