"""What TensorRT for RTX lets a runtime choose, and the kernels that it compiles at run time.

An engine for RTX has no kernels for the GPU at hand: they are compiled as contexts are made and new
shapes met. The library keeps them in a runtime cache; we keep that as a file beside the engine,
named by library version and GPU, so that the next process starts fast:

    engines/runtime-cache/<identity>.<version>.<gpu>.cache

Its format is that of `maxim_deploy.engines.library_file`. A bundle that cannot be written to works
without. Of two processes that write the last one stays, whole.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from maxim_deploy.engines.library_file import LibraryFile
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

    Attributes:
        config: the `trt.IRuntimeConfig`.
    """

    def __init__(
        self, trt: ModuleType, engine: Any, bundle: Path, entry: EngineEntry, gpu: str
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
        self._cache: Any = None
        # Hash of what is in the file, which is written only when kernels were added.
        self._saved = b""
        if chosen["runtime_cache"]:
            self._file = _cache_file(bundle, entry, trt.__version__, gpu)
            self._load()

    def save(self) -> None:
        """Write the kernels that were compiled since the last time, if there are any."""
        if self._cache is None:
            return
        payload = bytes(memoryview(self._cache.serialize()))
        digest = hashlib.sha256(payload).digest()
        if digest == self._saved:
            return
        # Also if it cannot be written: that is not tried again at every new shape.
        self._saved = digest
        try:
            self._file.path.parent.mkdir(exist_ok=True)
            self._file.write(payload)
        except OSError as error:
            logger.warning("the runtime cache cannot be kept: %s", error)

    def _load(self) -> None:
        self._cache = self.config.create_runtime_cache()
        payload = b""
        try:
            payload = self._file.read()
            if payload and not self._cache.deserialize(payload):
                self._file.set_aside("was refused by the library")
        except OSError as error:
            logger.warning("the runtime cache cannot be used: %s", error)
        self._saved = hashlib.sha256(payload).digest()
        self.config.set_runtime_cache(self._cache)


def _cache_file(bundle: Path, entry: EngineEntry, version: str, gpu: str) -> LibraryFile:
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    name = f"{entry.identity[:12]}.{version}.{slug}.cache"
    path = bundle / Path(entry.file).parent / "runtime-cache" / name
    return LibraryFile(
        path, "runtime cache", f"{entry.library} {version}", gpu, lambda text: logger.warning(text)
    )
