"""Engines in memory: each deserialized once per process and GPU, and shared.

Loading an engine needs a GPU. "What ran where" in README.md says on which it has run.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from types import ModuleType
from typing import Any

from maxim_deploy.engines.messages import failure
from maxim_deploy.engines.refit import refit_from_graph
from maxim_deploy.engines.validity import reasons_against
from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.machine.gpu import Gpu, find_gpu
from maxim_deploy.machine.tensorrt import collecting_logger, load_library
from maxim_deploy.runtime.cuda import Cuda
from maxim_deploy.runtime.tensorrt_pool import Pool
from maxim_deploy.runtime.tensorrt_settings import RtxSettings
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.manifest import Bundle

logger = logging.getLogger(__name__)

_NO_MEMORY = re.compile(r"out ?of ?memory|could not be allocated|cudaErrorMemoryAllocation", re.I)
_KEPT_MESSAGES = 100

_shared: dict[tuple[str, int, str], SharedEngine] = {}
_lock = threading.Lock()


class SharedEngine:
    """A deserialized engine, with what all its contexts share.

    Attributes:
        trt: the library's module.
        engine: the `trt.ICudaEngine`.
        gpu: that it is on.
        pool: memory that its contexts take turns in.
        sizes: bytes of the pool that shapes took, by profile and dimensions, as far as known.
    """

    def __init__(self, bundle: Bundle, entry: EngineEntry, cuda: Cuda, gpu: Gpu) -> None:
        self.trt, self.gpu, self.users = load_library(entry.library), gpu, 0
        self._log = collecting_logger(self.trt)
        # An application may run for months, and the library may log in every run.
        self._log.messages = deque(maxlen=_KEPT_MESSAGES)
        with cuda.active():
            # Kept, because the runtime must outlive the engine that it makes.
            self._runtime = self.trt.Runtime(self._log)
            # Such an engine brings the code that runs it; its hash has been checked.
            if entry.made_of["version_compatible"]:
                self._runtime.engine_host_code_allowed = True
            plan = (bundle.path / entry.file).read_bytes()
            self.engine = self._runtime.deserialize_cuda_engine(plan)
            if self.engine is None:
                raise self.error(f"{entry.file} cannot be loaded")
            if entry.stripped:
                graph = bundle.graph(entry.precision, entry.io)
                refit_from_graph(self.trt, self.engine, bundle.path / graph.file, self._log)
            self._check_tensors(entry)
            self.settings: RtxSettings | None = None
            if is_portable(entry.library):
                self.settings = RtxSettings(self.trt, self.engine, bundle.path, entry, gpu.name)
            self.pool = Pool(cuda)
        self.sizes: dict[tuple[int, tuple[int, ...]], int] = {}

    def create_context(self) -> Any:
        """A new `trt.IExecutionContext` without memory of its own.

        Raises:
            OutOfMemoryError: there is no memory for it.
            BackendError: the library makes none.
        """
        if self.settings:
            context = self.engine.create_execution_context(self.settings.config)
        else:
            managed = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self.engine.create_execution_context(managed)
        if context is None:
            raise self.error("no execution context could be made")
        return context

    def error(self, what: str) -> Exception:
        """What went wrong, with the library's reason, as an exception to raise."""
        # Copied at once: the library may write from threads of its own.
        messages = list(self._log.messages)
        self._log.messages.clear()
        text = f"{what}: {failure(messages)}"
        no_memory = any("ERROR" in kind and _NO_MEMORY.search(said) for kind, said in messages)
        return OutOfMemoryError(text) if no_memory else BackendError(text)

    def _check_tensors(self, entry: EngineEntry) -> None:
        """The engine must have the graph's input and output, or addresses would mean nothing."""
        engine, mode = self.engine, self.trt.TensorIOMode
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        found = {name: engine.get_tensor_mode(name) for name in names}
        if found != {"image": mode.INPUT, "restored": mode.OUTPUT}:
            raise BackendError(f"{entry.file} has the tensors {names}, not 'image' and 'restored'")


def acquire_engine(bundle: Bundle, entry: EngineEntry, cuda: Cuda) -> SharedEngine:
    """An engine of a bundle on a GPU; loaded if nobody in this process has it yet.

    Every caller gives it back with `release_engine`.

    Raises:
        BundleError: the engine's file, or graph or weights that it is refitted from, are missing or
            have changed.
        EngineError: it was built without weights and cannot be refitted.
        MissingDependencyError: the library is not installed.
        BackendError: the engine cannot run here; the message has all reasons.
        OutOfMemoryError: its weights do not fit the memory of the GPU.
    """
    key = (entry.identity + entry.sha256, cuda.device, cuda.provider)
    with _lock:
        if key not in _shared:
            gpu = _checked(bundle, entry, cuda.device)
            _shared[key] = SharedEngine(bundle, entry, cuda, gpu)
            logger.debug("loaded %s", entry.file)
        shared = _shared[key]
        shared.users += 1
        return shared


def release_engine(shared: SharedEngine) -> None:
    """Give an engine back; the last user frees its memory, and its contexts must be gone."""
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        for key in [key for key, other in _shared.items() if other is shared]:
            del _shared[key]
        if shared.settings:
            shared.settings.save()
        shared.pool.close()
        # The settings' cache and the engine go before the runtime that made them.
        del shared.settings, shared.engine


def _checked(bundle: Bundle, entry: EngineEntry, device: int) -> Gpu:
    """The GPU, after everything that can be known of an engine without loading it."""
    path = bundle.checked_engine(entry)
    graph, gpu = bundle.graph(entry.precision, entry.io), find_gpu(device)
    reasons = bundle.mismatches(entry) + reasons_against(entry, path, gpu)
    if reasons or gpu is None:
        raise BackendError(f"engine {entry.file} does not run here: {'; '.join(reasons)}")
    if entry.stripped:
        bundle.checked_graph(graph)
    return gpu


def library_name(trt: ModuleType, entry: EngineEntry) -> str:
    """The library and its version, such as "tensorrt-rtx 1.7.1"."""
    return f"{entry.library} {trt.__version__}"
