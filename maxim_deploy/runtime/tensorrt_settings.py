"""What TensorRT for RTX lets a runtime choose, and the kernels that it compiles at run time.

An engine for RTX has no kernels for the GPU at hand: they are compiled as contexts are made and new
shapes met. The library keeps them in a runtime cache; we keep that as a file beside the engine,
named by library version and GPU, so that the next process starts fast:

    engines/runtime-cache/<identity>.<version>.<gpu>.cache

Its format is that of `maxim_deploy.engines.library_file`, with a key of this user's: a file that
came with the bundle, or that another user wrote, is not read. A bundle that cannot be written to
works without. Of two processes that write the last one stays, whole. The file is written after the
first runs of each shape and at the end, so that a process that is killed loses little.
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
        entry: of the engine; its `runtime` is what to choose.
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
        # Contexts borrow the pool's memory. By default each has that of the largest profile.
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
            # For a process that ends without `close`.
            weakref.finalize(self, self._cache.save)

    def save(self) -> None:
        """As `RuntimeCache.save`, if there is a cache."""
        if self._cache:
            self._cache.save()

    def save_at_times(self) -> None:
        """As `RuntimeCache.save_at_times`, if there is a cache."""
        if self._cache:
            self._cache.save_at_times()


class RuntimeCache:
    """The kernels of one engine, in memory and in a file. Thread-safe.

    Args:
        cache: the `trt.IRuntimeCache`, with what the file holds.
        file: to write to.
        cuda: the GPU that the kernels are for.
    """

    def __init__(self, cache: Any, file: LibraryFile, cuda: Cuda) -> None:
        self._cache, self._file, self._cuda = cache, file, cuda
        self._lock, self._next_s = threading.Lock(), 0.0
        # Of what is in the file, or in a cache without kernels: neither is worth writing.
        self._saved = hashlib.sha256(self._payload()).digest()

    def save_at_times(self) -> None:
        """As `save`, but not now if more than a tenth of the time would go into saving.

        Where every image has a new size there are new kernels after each, and the file grows.
        """
        begin = time.monotonic()
        if begin >= self._next_s:
            self.save()
            end = time.monotonic()
            self._next_s = end + 9 * (end - begin)

    def save(self) -> None:
        """Write the kernels that were compiled since the last time, if there are any.

        The file is replaced whole: a process that is killed loses what it compiled since.
        """
        with self._lock, self._cuda.active():
            payload = self._payload()
            digest = hashlib.sha256(payload).digest()
            if digest == self._saved:
                return
            # Also if it cannot be written: that is not tried again for the same kernels.
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
    """The cache in the file of an engine; None where this user can have no key."""
    try:
        key = user_key()
    except (OSError, MissingDependencyError, UsageError) as error:
        logger.warning("the runtime cache cannot be kept: %s", error)
        return None
    return _loaded_cache(config, _cache_file(*of, key), cuda)


def _loaded_cache(config: Any, file: LibraryFile, cuda: Cuda) -> RuntimeCache | None:
    """The cache of a `trt.IRuntimeConfig`, with what a file holds; None if it takes none."""
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
