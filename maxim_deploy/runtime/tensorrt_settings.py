"""Runtime settings and compiled kernels of TensorRT for RTX.

An engine for RTX has no kernels for a specific GPU. They are compiled when contexts are made and
new shapes occur. The library keeps them in a runtime cache. We store this cache in a file beside
the engine, named by library version and GPU, for a fast start of the next process:

    engines/runtime-cache/<identity>.<version>.<gpu>.cache

Its format is that of `maxim_deploy.engines.library_file` with this user's key: a file that came
with the bundle, or that another user wrote, is not read. A read-only bundle works without the file.
If two processes write, the last one wins. The file is written after the first runs of each shape
and at the end, so a killed process loses little.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

from maxim_deploy.engines.library_file import LibraryFile
from maxim_deploy.errors import MissingDependencyError, UsageError
from maxim_deploy.machine.cache import user_key
from maxim_deploy.runtime.cuda import Cuda
from maxim_deploy.spec.engines import EngineEntry

logger = logging.getLogger(__name__)

_CUDA_GRAPHS = {"off": "DISABLED", "whole-graph": "WHOLE_GRAPH_CAPTURE"}


class RtxSettings:
    """A `trt.IRuntimeConfig` for the contexts of one engine, and its runtime cache.

    Args:
        trt: the module `tensorrt_rtx`.
        engine: a `trt.ICudaEngine`.
        bundle: folder of the bundle.
        entry: manifest entry of the engine, whose `runtime` has the settings.
        gpu: name of the GPU.
        cuda: the GPU.

    Attributes:
        config: the `trt.IRuntimeConfig`.
    """

    def __init__(
        self,
        trt: ModuleType,
        engine: Any,
        bundle: Path,
        entry: EngineEntry,
        gpu: str,
        cuda: Cuda,
    ) -> None:
        chosen = entry.runtime
        self.config = config = engine.create_runtime_config()
        # Contexts use the pool's memory. By default each would have memory for the largest profile.
        config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        config.cuda_graph_strategy = getattr(
            trt.CudaGraphStrategy, _CUDA_GRAPHS[chosen["cuda_graphs"]]
        )
        config.dynamic_shapes_kernel_specialization_strategy = getattr(
            trt.DynamicShapesKernelSpecializationStrategy, chosen["specialization"].upper()
        )
        self._cache: RuntimeCache | None = None
        if chosen["runtime_cache"]:
            self._cache = _opened_cache(config, (bundle, entry, trt.__version__, gpu), cuda)
        if self._cache:
            # For a process that exits without `close`.
            weakref.finalize(self, self._cache.save)

    def save(self) -> None:
        """Save the kernels with `RuntimeCache.save`, if there is a cache."""
        if self._cache:
            self._cache.save()

    def save_at_times(self) -> None:
        """Save the kernels with `RuntimeCache.save_at_times`, if there is a cache."""
        if self._cache:
            self._cache.save_at_times()


class RuntimeCache:
    """The kernels of an engine, in memory and in a file. Thread-safe.

    Args:
        cache: the `trt.IRuntimeCache`, with the content of the file.
        file: the file.
        cuda: the GPU that the kernels are for.
    """

    def __init__(self, cache: Any, file: LibraryFile, cuda: Cuda) -> None:
        self._cache, self._file, self._cuda = cache, file, cuda
        self._lock, self._next_s = threading.Lock(), 0.0
        # Hash of the file's content, or of a cache without kernels. Neither needs writing.
        self._saved = hashlib.sha256(self._payload()).digest()

    def save_at_times(self) -> None:
        """Save the kernels, unless saving would take more than a tenth of the time.

        If every image has a new size, each adds kernels, and the file grows.
        """
        begin = time.monotonic()
        if begin >= self._next_s:
            self.save()
            end = time.monotonic()
            self._next_s = end + 9 * (end - begin)

    def save(self) -> None:
        """Write the kernels if new ones were compiled since the last time.

        The file is replaced in one step. A killed process loses only kernels compiled since then.
        """
        with self._lock, self._cuda.active():
            payload = self._payload()
            digest = hashlib.sha256(payload).digest()
            if digest == self._saved:
                return
            # Also after a failure: writing is not tried again for the same kernels.
            self._saved = digest
            try:
                self._file.path.parent.mkdir(exist_ok=True)
                self._file.write(payload)
            except OSError as error:
                logger.warning("the runtime cache cannot be kept: %s", error)

    def _payload(self) -> bytes:
        serialized = self._cache.serialize()
        return b"" if serialized is None else bytes(memoryview(serialized))


def _opened_cache(
    config: Any, of: tuple[Path, EngineEntry, str, str], cuda: Cuda
) -> RuntimeCache | None:
    """The cache in an engine's file; None if this user cannot have a key."""
    try:
        key = user_key()
    except (OSError, MissingDependencyError, UsageError) as error:
        logger.warning("the runtime cache cannot be kept: %s", error)
        return None
    return _loaded_cache(config, _cache_file(*of, key), cuda)


def _loaded_cache(config: Any, file: LibraryFile, cuda: Cuda) -> RuntimeCache | None:
    """The cache of a `trt.IRuntimeConfig` with a file's content; None if it accepts none."""
    cache = config.create_runtime_cache()
    try:
        payload = file.read()
        if payload and not cache.deserialize(payload):
            file.set_aside("was refused by the library")
    except OSError as error:
        logger.warning("the runtime cache cannot be used: %s", error)
    if not config.set_runtime_cache(cache):
        logger.warning("the library refuses a runtime cache: kernels are compiled in each process")
        return None
    return RuntimeCache(cache, file, cuda)


def _cache_file(
    bundle: Path, entry: EngineEntry, version: str, gpu: str, key: bytes
) -> LibraryFile:
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    name = f"{entry.identity[:12]}.{version}.{slug}.cache"
    path = bundle / Path(entry.file).parent / "runtime-cache" / name
    library = f"{entry.library} {version}"
    return LibraryFile(path, "runtime cache", library, gpu, logger.warning, key)
