"""`load()`: from a bundle to a `Restorer` on the best backend that works here."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy.errors import UsageError, nearest
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu
from maxim_deploy.runtime.planning import Planner, TileOption
from maxim_deploy.runtime.restorer import Restorer, RestorerInfo
from maxim_deploy.spec.manifest import Bundle, GraphEntry
from maxim_deploy.spec.quantities import bytes_from
from maxim_deploy.spec.recipes import chosen

BACKENDS = ("auto", "onnxruntime")
CPU_PRECISIONS = ("fp32", "fp16")
"""Best first. A CPU runs hardly any bfloat16 operator."""


def load(
    bundle: str | Path,
    *,
    backend: str = "auto",
    precision: str = "auto",
    device: int = 0,
    threads: int | None = None,
    tile: TileOption = "auto",
    overlap: int | None = None,
    max_memory: int | str | None = None,
    stream: int | None = None,
) -> Restorer:
    """Open a bundle and make it ready to restore images.

    Args:
        bundle: the directory that `maxim-export` wrote. Its files are checked against their hashes.
        backend: "auto" (the best that works here) or "onnxruntime" (CPU).
        precision: "auto" (float32 where the bundle has it, which a CPU runs fastest), "fp32" or
            "fp16".
        device: index of the GPU; a CPU backend takes 0 only.
        threads: CPU threads for one image; None for one per core.
        tile: "auto" runs an image whole if it fits the memory, and in tiles if not; "off" always
            whole; a multiple of 64 in tiles of that side whatever is larger.
        overlap: pixels that tiles share at least; None for the default, 64.
        max_memory: bytes, or text such as "4GiB", for the whole process on a CPU. None for what the
            system has free at the time of a call.
        stream: CUDA stream; a CPU backend takes None only.

    Raises:
        UsageError: an argument is unknown or cannot be honoured.
        BundleError: the directory is not a bundle, or a file in it is missing or has changed.
        MissingDependencyError: the backend's library is not installed.
        BackendError: the backend cannot load the graph.
    """
    if backend not in BACKENDS:
        raise UsageError(
            f"unknown backend {backend!r}{nearest(backend, BACKENDS)}; this version has: "
            f"{', '.join(BACKENDS)}"
        )
    chosen("precision", [precision], ("auto", *CPU_PRECISIONS))
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    _refuse_unavailable(device=(device, 0), stream=(stream, None))
    limit = None if max_memory is None else bytes_from(max_memory, "max_memory")

    opened = Bundle.open(bundle)
    entry = _chosen_graph(opened, precision)
    session = OnnxRuntimeCpu(_checked_graph(opened, entry), threads, opened.manifest.architecture)
    return Restorer(
        session,
        RestorerInfo(
            model=opened.manifest.model,
            variant=opened.manifest.architecture.variant,
            precision=entry.precision,
            io=entry.io,
            backend=session.name,
            device=session.device,
            library=session.library,
        ),
        Planner(session, tile, overlap),
        limit,
    )


def _refuse_unavailable(**arguments: tuple[object, object]) -> None:
    """Refuse a value that would have no effect, rather than ignore it."""
    for name, (value, only) in arguments.items():
        if value != only:
            raise UsageError(
                f"{name}={value!r} cannot be honoured by the CPU backend of this version; "
                f"leave {name} at {only!r}"
            )


def _chosen_graph(bundle: Bundle, precision: str) -> GraphEntry:
    """The entry to run: the tensor form where the bundle has it, which takes every pixel type."""
    have = {(entry.precision, entry.io): entry for entry in bundle.manifest.graphs}
    wanted = CPU_PRECISIONS if precision == "auto" else (precision,)
    for candidate in ((p, io) for p in wanted for io in ("tensor", "image")):
        if candidate in have:
            return have[candidate]
    return bundle.graph(wanted[0], "tensor")  # says what there is instead


def _checked_graph(bundle: Bundle, entry: GraphEntry) -> Path:
    """The path of a graph whose files, its weights included, are the ones that were exported."""
    if entry.weights:
        bundle.checked(entry.weights)
    return bundle.checked(entry.file)
