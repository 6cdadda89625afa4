"""`load()`: open a bundle as a `Restorer` on the best backend that works here."""

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
from maxim_deploy.spec.bundle import Bundle
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
        bundle: the directory that `maxim-export` wrote. Its files are compared with their hashes.
            If it is replaced meanwhile, it is loaded again.
        backend: "auto" takes the first of these that works here: "tensorrt" and "tensorrt-rtx" (the
            bundle's engines), "onnxruntime-cuda", "openvino" (CPU, only if `expected` justifies
            it), "onnxruntime" (CPU). `info.not_taken` has the reasons against earlier ones. By name
            only: "torch" (the literal network, for comparison), and backends of other packages, see
            `maxim_deploy.runtime.registry`.
        precision: "auto", "fp32", "fp16" or "bf16". "auto" takes the backend's fastest of those in
            the bundle: fp16 on a GPU, fp32 on a CPU. "openvino" computes in bf16 from the float32
            graph, if requested and supported by the processor.
        device: index of the GPU; 0 for a CPU backend. Arrays in the memory of another GPU are
            refused.
        threads: CPU threads for one image; None for one per core, or as many as a container's quota
            allows.
        lanes: images that run at a time on a CPU, each with a share of the threads. A single call
            has all threads. "auto" measures the best number once per machine and network, when
            there are several images (folders, videos, `Restorer.warmup`), and keeps it in the cache
            folder. Until then one runs at a time.
        spinning: whether CPU threads wait for each other in a loop. That is up to 7 % faster on an
            idle machine, and up to 1.6 times slower beside other busy processes. None chooses by
            the load while this function runs; `info.notes` has the choice.
        tile: "auto" runs an image whole if it fits the memory, otherwise in tiles. "off" always
            runs it whole. A multiple of 64 runs larger images in tiles of this side.
        overlap: least number of pixels that tiles share; None for the default, 64.
        max_memory: limit in bytes, or text such as "4GiB", "4Gi" or "4GB": of the whole process on
            a CPU, of a run on a GPU. A call that would exceed it raises `ImageTooLargeError` before
            it runs, also with `tile`. None for the free memory at the time of a call.
        stream: handle of a CUDA stream for an engine, such as torch's
            `current_stream().cuda_stream`; None for a CPU backend. Calls with arrays in device
            memory then return before the work is done. CUDA graphs are captured in this stream,
            unless it is the default one. No other thread may enqueue in it during a call. It must
            outlive the restorer and its results.
        cuda: package for access to CUDA, "cuda-bindings" or "pycuda".
        allow_host_code: let CPU code run that a version-compatible engine contains. It has all
            rights of this user, so allow it only for a bundle that you trust.
        queue: most calls and submitted pictures that may wait. Another one raises `QueueFullError`
            at once. None for no limit.
        expected: number of expected pictures by (height, width). On a CPU "auto" takes "openvino"
            if they repeat few sizes, because compiling for each size then pays. In float32 its
            results equal those of "onnxruntime" to 5e-6, at most one 8-bit level. `restore_files`
            passes the sizes of its files.

    Raises:
        UsageError: an argument is unknown or not supported here.
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
    """A restorer of the bundle's present version.

    `options` are those of `load` for tiles and memory.
    """
    opened = request.bundle
    if problem := opened.manifest.export.problem:
        _log.warning("bundle %r: %s", str(opened.path), problem)
    # Before the network is loaded: its session frees the buffer left by hashing. A run would
    # otherwise reuse the buffer, and take less than planned.
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
    except BaseException:  # invalid tiles or lanes, found after opening the backend
        running.close()
        raise
