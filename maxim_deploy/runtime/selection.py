"""Which backend runs a bundle here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maxim_deploy.errors import (
    BackendError,
    BundleError,
    MaximDeployError,
    MissingDependencyError,
    UsageError,
)
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.machine.run_memory import RunMemory
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.engine_set import EngineSet
from maxim_deploy.runtime.onnxruntime_backend import (
    OnnxRuntimeCpu,
    typical_run_memory,
)
from maxim_deploy.runtime.registry import opener_of, registered_names
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.manifest import Bundle, GraphEntry
from maxim_deploy.spec.precision import CPU_PRECISIONS, GPU_PRECISIONS

FORMS = ("tensor", "image")
"""Best first: the tensor form takes every pixel type."""


@dataclass(frozen=True)
class Request:
    """What `load` was asked for.

    Attributes:
        bundle: to run.
        precision: "auto", or the one to run.
        device: index of the GPU.
        threads: of the CPU, or None.
        stream: handle of a CUDA stream, or None.
        cuda: provider of CUDA, "cuda-bindings" or "pycuda".
    """

    bundle: Bundle
    precision: str = "auto"
    device: int = 0
    threads: int | None = None
    stream: int | None = None
    cuda: str = "cuda-bindings"

    def precisions(self, best_first: tuple[str, ...]) -> tuple[str, ...]:
        """The precisions to look for, best first."""
        return best_first if self.precision == "auto" else (self.precision,)


def open_backend(request: Request, name: str) -> tuple[Backend, dict[str, str]]:
    """The backend asked for, or the best that works here.

    Args:
        request: what to run.
        name: a key of `OPENERS`, a registered name, or "auto".

    Returns:
        (the backend, why better ones were not taken, by name).

    Raises:
        BundleError, MissingDependencyError, BackendError, UsageError: the backend does not work
            here; with "auto", the last of them does not.
    """
    if name in registered_names():
        return opener_of(name)(request), {}
    if name != "auto":
        return OPENERS[name](request), {}
    not_taken: dict[str, str] = {}
    *better, last = OPENERS
    for candidate in better:
        try:
            return OPENERS[candidate](request), not_taken
        except (BackendError, BundleError, MissingDependencyError) as error:
            not_taken[candidate] = str(error)
    try:
        return OPENERS[last](request), not_taken
    except MaximDeployError as error:
        error.add_note("\n".join(f"{name}: {why}" for name, why in not_taken.items()))
        raise


def _engines(library: str) -> Callable[[Request], Backend]:
    def open_engines(request: Request) -> Backend:
        entries = _best_engines(request, library)
        _require_gpu(request)
        from maxim_deploy.runtime.cuda import open_cuda
        from maxim_deploy.runtime.tensorrt_backend import TensorRtBackend

        cuda = open_cuda(request.cuda, request.device)
        return EngineSet(
            entries, lambda e: TensorRtBackend(request.bundle, e, cuda, stream=request.stream)
        )

    return open_engines


def _best_engines(request: Request, library: str) -> list[EngineEntry]:
    """All engines of the library that share the best precision and form there is."""
    listed = [e for e in request.bundle.manifest.engines if e.library == library]
    engines = [e for e in listed if not request.bundle.stale(e)]
    for precision in request.precisions(GPU_PRECISIONS):
        for io in FORMS:
            if found := [e for e in engines if (e.precision, e.io) == (precision, io)]:
                return found
    have = ", ".join(f"{e.precision} {e.io}" for e in engines) or "none"
    wanted = "" if request.precision == "auto" else f"{request.precision} "
    stale = f", and {len(listed) - len(engines)} of another graph" if engines != listed else ""
    raise BundleError(
        f"bundle {str(request.bundle.path)!r} has no {wanted}engine of {library} (it "
        f"has: {have}{stale}); build one: maxim-export -o {request.bundle.path} --engine {library} "
        "--profile photo"
    )


def _require_gpu(request: Request) -> None:
    if find_gpu(request.device) is None:
        raise BackendError(f"there is no NVIDIA GPU {request.device} or no driver here")


def _onnxruntime_cuda(request: Request) -> Backend:
    _require_gpu(request)
    if request.stream is not None:
        raise UsageError("onnxruntime-cuda runs in a stream of its own; leave stream at None")
    from maxim_deploy.runtime.onnxruntime_cuda import OnnxRuntimeCuda

    entry = _best_graph(request, GPU_PRECISIONS)
    return OnnxRuntimeCuda(
        request.bundle.checked_graph(entry),
        entry.precision,
        entry.io,
        request.device,
        request.threads,
        request.bundle.manifest.architecture,
    )


def _onnxruntime(request: Request) -> Backend:
    for name, value, only in (("device", request.device, 0), ("stream", request.stream, None)):
        if value != only:
            raise UsageError(
                f"{name}={value!r} cannot be honoured by a CPU backend; leave {name} at {only!r}"
            )
    if request.precision not in ("auto", *CPU_PRECISIONS):
        raise UsageError(f"a CPU runs no {request.precision}; choose {', '.join(CPU_PRECISIONS)}")
    entry = _best_graph(request, CPU_PRECISIONS)
    memory = _run_memory(entry) or typical_run_memory(request.bundle.manifest.architecture)
    return OnnxRuntimeCpu(request.bundle.checked_graph(entry), request.threads, memory)


def _run_memory(entry: GraphEntry) -> RunMemory | None:
    if entry.run_bytes is None or entry.run_bytes_per_pixel is None:
        return None
    return RunMemory(
        [(pixels, taken) for pixels, taken in entry.run_bytes], entry.run_bytes_per_pixel
    )


def _best_graph(request: Request, best_first: tuple[str, ...]) -> GraphEntry:
    have = {(entry.precision, entry.io): entry for entry in request.bundle.manifest.graphs}
    wanted = request.precisions(best_first)
    for candidate in ((precision, io) for precision in wanted for io in FORMS):
        if candidate in have:
            return have[candidate]
    return request.bundle.graph(wanted[0], FORMS[0])  # says what there is instead


OPENERS: dict[str, Callable[[Request], Backend]] = {
    "tensorrt": _engines("tensorrt"),
    "tensorrt-rtx": _engines("tensorrt-rtx"),
    "onnxruntime-cuda": _onnxruntime_cuda,
    "onnxruntime": _onnxruntime,
}
"""What opens each backend, the best first."""
