"""The table of backends: the only place that lists them.

Our backends are the rows of `BACKENDS`. Others come from installed packages, by the entry points
`maxim_deploy.backends`, or from `register_backend`. A row names functions as "module:function".
They are imported when called, so the runtime needs no library before a backend is opened, and a row
may name a room above the runtime.
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
"""Group of the entry points. Each refers to a `BackendSpec` of the same name."""

Opener = Callable[[Request], Backend]
GraphOpener = Callable[[Path, str, int, int | None], Backend]
Probe = Callable[[Verdict, NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class BackendSpec:
    """Facts about a backend before it is opened.

    Functions are objects, or "module:function" for import on the first call.

    Attributes:
        name: name for `load` and `--backend`, without a dot, which separates a precision from it.
        opener: from a `Request` to a `Backend`. What it raises, `load` raises.
        label: name in reports; empty for the plain name.
        device: "gpu" for an NVIDIA GPU with CUDA. Other devices take host memory.
        runs: the part of a bundle that it runs.
        is_automatic: whether "auto" may take it. Earlier rows are better.
        compiles_sizes: whether it compiles the network for each size. "auto" then takes it only for
            work that repeats sizes.
        extra: extra of this package that installs its requirements.
        package: pip name of the package with its library.
        probe: for `maxim-doctor`: runs `maxim_deploy.machine.tiny_graph.TINY_GRAPH` on float32 `[1,
            3, 4, 4]` and returns the result. It may add findings to the verdict. Without a probe,
            only the import of the opener is tried.
        graph_opener: makes a `Backend` for a graph outside of bundles, from an ONNX file of the
            tensor form, its precision, an index of a GPU and a number of threads.
        profiler: measures the time of every node, from a
            `maxim_deploy.benchmarks.profile.bundle_profile.ProfileRequest` to a `Measured`.
        no_profiler: why there is no profiler, in words.
        distribution: package that it comes from, if it is not ours.
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
        """Precisions to try, the fastest first."""
        return GPU_PRECISIONS if self.is_on_gpu else CPU_PRECISIONS

    def open(self, request: Request) -> Backend:
        """Open the backend for a request.

        Raises:
            MissingDependencyError: a requirement is not installed; the message is the pip line.
            UsageError, BundleError, BackendError: it cannot run this request, or not on this
                machine.
        """
        backend: Backend = self.call("opener", replace(request, backend=self.name))
        return backend

    def call(self, role: str, *arguments: Any) -> Any:
        """Import the function of an attribute if needed, and call it.

        Raises:
            MissingDependencyError: a required module is not installed.
            BackendError: it belongs to another package and failed with an unknown exception.
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
        """The function of an attribute, imported if needed. Raises as `call`."""
        named: Callable[..., Any] | str = getattr(self, role)
        if not isinstance(named, str):
            return named
        module, _, function = named.partition(":")
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as error:
            # If one of our own modules is missing, the install is broken, and no extra is missing.
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
    # For comparison only, so "auto" never takes it.
    BackendSpec(
        "torch", "maxim_deploy.parity.torch_backend:open_backend", "PyTorch eager",
        runs="weights", extra="export", package="torch",
    ),
)
# fmt: on
"""Our backends, the best first."""

_registered: dict[str, BackendSpec] = {}


def register_backend(name: str, opener: Opener | str, **facts: Any) -> None:
    """Register your own backend for `maxim_deploy.load(bundle, backend=name)` in this process.

    Args:
        name: a new name.
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
    """All names: ours, those of other packages, and registered ones."""
    return (*(spec.name for spec in BACKENDS), *offered_names(), *_registered)


def offered_names() -> tuple[str, ...]:
    """The names offered by other packages, without importing these.

    Our names take precedence.
    """
    ours = {spec.name for spec in BACKENDS}
    return tuple(name for name in _entry_points() if name not in ours)


def automatic_backends() -> tuple[BackendSpec, ...]:
    """The backends that "auto" may take, the best first. All are ours."""
    return tuple(spec for spec in BACKENDS if spec.is_automatic)


def compared_backends() -> tuple[BackendSpec, ...]:
    """The backends of `automatic_backends` that comparisons take by default.

    A backend that "auto" takes only for some work is included only if it is installed.
    """
    return tuple(
        spec
        for spec in automatic_backends()
        if not spec.compiles_sizes or (spec.extra and has_extra(spec.extra))
    )


def chooses_by_work() -> bool:
    """Whether the choice of "auto" depends on the number and sizes of pictures here."""
    return any(spec.compiles_sizes for spec in compared_backends())


def graph_backend(*, on_gpu: bool) -> BackendSpec:
    """The backend for graphs outside of bundles, on a GPU or on the CPU."""
    return next(s for s in BACKENDS if s.graph_opener and s.is_on_gpu == on_gpu)


def backend_named(name: str) -> BackendSpec:
    """The row of a backend.

    Raises:
        UsageError: the name is unknown; the message lists the known names.
        BackendError: the entry point of another package does not work.
    """
    for spec in (*BACKENDS, *_registered.values()):
        if spec.name == name:
            return spec
    if name in _entry_points():
        return _offered(name)
    raise UsageError(unknown("backend", name, ("auto", *backend_names())))


def backend_label(name: str) -> str:
    """The name of a backend for reports; the plain name if it is not installed."""
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
    except Exception as error:  # a module of another package may raise any type
        raise BackendError(_blamed(name, distribution, error)) from error
    if not isinstance(spec, BackendSpec) or spec.name != name or "." in name:
        raise BackendError(
            f"backend {name!r} of {distribution} | {points[0].value} is {spec!r} | expected a "
            "BackendSpec with this name and without a dot"
        )
    return replace(spec, distribution=distribution)


def _blamed(name: str, distribution: str, error: Exception) -> str:
    return f"backend {name!r} of {distribution} does not work: {type(error).__name__}: {error}"
