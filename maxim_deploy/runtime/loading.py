"""`load()`: from a bundle to a `Restorer` on the best backend that works here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxim_deploy._folders import read_whole
from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.runtime.expected_work import in_tiles
from maxim_deploy.runtime.info import RestorerInfo, result_settings
from maxim_deploy.runtime.lanes import LaneChoice, LaneOption
from maxim_deploy.runtime.names import BackendName, PrecisionName
from maxim_deploy.runtime.planning import Planner, TileOption
from maxim_deploy.runtime.registry import backend_named
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.restorer import Restorer
from maxim_deploy.runtime.selection import open_backend
from maxim_deploy.runtime.speeds import Speeds, identity_of
from maxim_deploy.spec.manifest import Bundle
from maxim_deploy.spec.precision import PRECISIONS
from maxim_deploy.spec.quantities import bytes_from

_log = logging.getLogger(__name__)


def load(  # noqa: PLR0913  # public: an argument per choice, each by its keyword
    bundle: str | Path,
    *,
    backend: BackendName | str = "auto",
    precision: PrecisionName = "auto",
    device: int = 0,
    threads: int | None = None,
    lanes: LaneOption = "auto",
    spinning: bool | None = None,
    tile: TileOption = "auto",
    overlap: int | None = None,
    max_memory: int | str | None = None,
    stream: int | None = None,
    cuda: str = "cuda-bindings",
    allow_host_code: bool = False,
    queue: int | None = None,
    expected: Mapping[tuple[int, int], int] | None = None,
) -> Restorer:
    """Open a bundle and make it ready to restore images.

    Args:
        bundle: the directory that `maxim-export` wrote. Its files are checked against their hashes.
            If it is replaced meanwhile, it is loaded again.
        backend: "auto" takes the first of these that works here, and `info.not_taken` says why the
            ones before did not: "tensorrt" and "tensorrt-rtx" (the bundle's engines),
            "onnxruntime-cuda", "openvino" (CPU, only if `expected` makes it pay), "onnxruntime"
            (CPU). By name only, "torch": the literal network, for comparison, and the backends of
            other distributions, see `maxim_deploy.runtime.registry`.
        precision: "auto", "fp32", "fp16" or "bf16". Of those that the bundle has, "auto" is the
            fastest of the backend: fp16 on a GPU, fp32 on a CPU. "openvino" computes in bf16 from
            the float32 graph if that is asked for and the processor has it.
        device: index of the GPU; a CPU backend takes 0 only. Arrays in the memory of another GPU
            are refused.
        threads: CPU threads for one image; None for one per core, or as many as fill the quota of a
            container.
        lanes: of several images on a CPU, how many run at a time, with a share of the threads each.
            A single call has all threads. "auto" measures that once per machine and network, where
            there are several images to restore (folders, videos, `Restorer.warmup`), and keeps it
            in the cache folder; until it is known one runs at a time.
        spinning: whether threads of the CPU wait for each other in a loop, which is up to 7 %
            faster on an idle machine, and up to 1.6 times slower beside other busy processes. None
            for yes unless others use the processors while this loads; `info.notes` says so.
        tile: "auto" runs an image whole if it fits the memory, and in tiles if not; "off" always
            whole; a multiple of 64 in tiles of that side whatever is larger.
        overlap: pixels that tiles share at least; None for the default, 64.
        max_memory: bytes, or text such as "4GiB", "4Gi" or "4GB": of the whole process on a CPU, of
            a run on a GPU. A call that would take more is an `ImageTooLargeError` before it runs,
            also with `tile`. None for what is free at the time of a call.
        stream: handle of a CUDA stream for an engine to work in, such as torch's
            `current_stream().cuda_stream`; a CPU backend takes None only. Calls with arrays in
            device memory then return before the work is done. CUDA graphs are captured in it: not
            in the default stream, and while a call lasts no other thread may enqueue in it. It
            must outlive the restorer and its results.
        cuda: what gives access to CUDA, "cuda-bindings" or "pycuda".
        allow_host_code: let code run on the CPU that a version-compatible engine brings. It may do
            whatever this user may: only for a bundle from somebody you trust.
        queue: how many calls and submitted pictures may wait for those that run; one more is a
            `QueueFullError` at once. None for any number.
        expected: how many pictures of which (height, width) will be restored, as far as that is
            known. On a CPU "auto" takes "openvino" where they repeat few sizes: compiling for each
            then pays. In float32 its results are those of "onnxruntime" to 5e-6, so at most one
            level of 8 bits apart. `restore_files` looks into its files and says so by itself.

    Raises:
        UsageError: an argument is unknown or cannot be honoured.
        BundleError: the directory is not a bundle, lacks the graph or engine, or a file in it is
            missing or has changed.
        MissingDependencyError: the backend's library is not installed.
        BackendError: the backend cannot run here.

    Example:
        >>> import maxim_deploy
        >>> with maxim_deploy.load("build/demo", threads=1, max_memory="2GiB") as restorer:
        ...     print(restorer.info.model.name, restorer.info.precision, restorer.info.device)
        demo-denoise fp32 cpu
        >>> maxim_deploy.load("build/demo", backend="onnxruntim")
        Traceback (most recent call last):
        maxim_deploy.errors.UsageError: unknown backend 'onnxruntim' (did you mean ...
    """
    if backend != "auto":
        backend_named(backend)
    check_known("precision", precision, ("auto", *PRECISIONS))
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if queue is not None and queue < 0:
        raise UsageError(f"queue must be at least 0, or None for no limit, not {queue}")
    limit = None if max_memory is None else bytes_from(max_memory, "max_memory")

    def open_restorer() -> Restorer:
        opened = Bundle.open(bundle)
        work = expected or {}
        request = Request(
            opened,
            precision,
            device,
            threads,
            stream,
            cuda,
            allow_host_code=allow_host_code,
            spinning=spinning,
            max_memory=limit,
            expected=in_tiles(work, tile) if isinstance(tile, int) else work,
        )
        options = {"tile": tile, "overlap": overlap, "max_memory": max_memory}
        return _open(request, backend, limit, queue, lanes, **options)

    return read_whole(Path(bundle), open_restorer, Restorer.close)


def _open(
    request: Request,
    backend: str,
    limit: int | None,
    queue: int | None,
    lanes: LaneOption,
    **options: Any,
) -> Restorer:
    """A restorer of the bundle as it is now; `options` as of `load`, for tiles and memory."""
    opened = request.bundle
    if problem := opened.manifest.export.problem:
        _log.warning("bundle %r: %s", str(opened.path), problem)
    # Before the network is there: its session gives back the buffer that hashing leaves, which a
    # run would else use again, and take less than was planned.
    settings = result_settings(
        opened.path, {"backend": backend, "precision": request.precision, **options}
    )
    running, not_taken = open_backend(request, backend)
    info = RestorerInfo(
        model=opened.manifest.model,
        variant=opened.manifest.architecture.variant,
        precision=running.precision,
        io=running.io,
        backend=running.name,
        device=running.device,
        library=running.library,
        sizes=running.sizes,
        not_taken=not_taken,
        settings=settings,
    )
    try:
        planner = Planner(running, options["tile"], options["overlap"])
        speeds = Speeds(identity_of(running, settings["bundle"]))
        return Restorer(running, info, planner, limit, queue, LaneChoice(running, lanes, speeds))
    except BaseException:  # tiles or lanes that cannot be, found when the backend is open
        running.close()
        raise
