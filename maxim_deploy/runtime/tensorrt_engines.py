"""Engines in memory: each is deserialized once per process and GPU, and shared.

Loading an engine needs a GPU. See "What ran where" in README.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from maxim_deploy._folders import unreplaced
from maxim_deploy.engines.messages import failure
from maxim_deploy.engines.refit import refit_from_graph
from maxim_deploy.engines.validity import validity_of
from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.machine.gpu import Gpu, find_gpu
from maxim_deploy.machine.tensorrt import error_recorder, load_library, quiet_logger, type_name
from maxim_deploy.runtime.cuda import Cuda
from maxim_deploy.runtime.tensorrt_pool import Pool
from maxim_deploy.runtime.tensorrt_settings import RtxSettings
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engines import EngineEntry

logger = logging.getLogger(__name__)

_NO_MEMORY = re.compile(
    r"out ?of ?memory|could not be allocated|cudaErrorMemoryAllocation|FAILED_ALLOCATION", re.I
)

_shared: dict[tuple[str, str, int, str], SharedEngine] = {}
_lock = threading.Lock()


class SharedEngine:
    """A deserialized engine and the objects that its contexts share.

    Attributes:
        trt: the library's module.
        engine: the `trt.ICudaEngine`.
        gpu: the GPU of the engine.
        pool: memory that its contexts use in turn.
        sizes: known bytes of the pool by profile and dimensions.
        notes: remarks on it for this machine, in words.
    """

    def __init__(
        self,
        bundle: Bundle,
        entry: EngineEntry,
        plan: bytes,
        cuda: Cuda,
        gpu: Gpu,
        notes: list[str],
    ) -> None:
        self.trt, self.gpu, self.notes, self.users = load_library(entry.library), gpu, notes, 0
        self._recorder, log = error_recorder(self.trt), quiet_logger(self.trt)
        with cuda.active():
            # Kept, because the runtime must outlive its engine.
            self._runtime = self.trt.Runtime(log)
            # The engine contains code that runs it. `acquire_engine` has the caller's permission.
            if brings_host_code(entry):
                self._runtime.engine_host_code_allowed = True
            with self.listening(self._runtime):
                self.engine = self._runtime.deserialize_cuda_engine(plan)
            if self.engine is None:
                raise self.error(f"{entry.file} cannot be loaded")
            # A reference of the runtime came with it.
            self.engine.error_recorder = None
            if entry.stripped:
                graph = bundle.graph(entry.precision, entry.io)
                with bundle.private_graph(graph) as path:
                    refit_from_graph(self.trt, self.engine, path, log)
            self._check_tensors(entry)
            self.settings: RtxSettings | None = None
            if is_portable(entry.library):
                self.settings = RtxSettings(
                    self.trt, self.engine, bundle.path, entry, gpu.name, cuda
                )
            self.pool = Pool(cuda)
        self.sizes: dict[tuple[int, tuple[int, ...]], int] = {}

    def create_context(self) -> Any:
        """A new `trt.IExecutionContext` without its own memory.

        Raises:
            OutOfMemoryError: there is no memory for it.
            BackendError: the library refuses to make one.
        """
        managed = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        made_with = self.settings.config if self.settings else managed
        with self.listening(self.engine):
            context = self.engine.create_execution_context(made_with)
        if context is None:
            raise self.error("no execution context could be made")
        # A reference of the engine came with it.
        context.error_recorder = None
        return context

    def bytes_of_profile(self, index: int) -> int:
        """The library's memory figure for a profile's largest shape; 0 if it has none."""
        return max(int(self.engine.get_device_memory_size_for_profile_v2(index)), 0)

    @contextlib.contextmanager
    def listening(self, target: Any) -> Iterator[None]:
        """Record the errors of one call to a runtime, engine or context. Not for every run.

        The recorder is written in Python and needs the GIL when the library calls it. So it is set
        only for a call that releases the GIL. Other calls, such as `set_input_shape` and the end of
        a context, hold the GIL while they may wait for the library's threads.
        """
        target.error_recorder = self._recorder
        try:
            yield
        finally:
            target.error_recorder = None

    def error(self, what: str) -> Exception:
        """An exception with the library's reason."""
        messages = self._recorder.messages
        self._recorder.clear()
        text = f"{what}: {failure(messages)}"
        no_memory = any("ERROR" in kind and _NO_MEMORY.search(said) for kind, said in messages)
        return OutOfMemoryError(text) if no_memory else BackendError(text)

    def _check_tensors(self, entry: EngineEntry) -> None:
        """Check that the engine has the graph's input and output, which get the addresses."""
        engine, mode = self.engine, self.trt.TensorIOMode
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        found = {name: engine.get_tensor_mode(name) for name in names}
        if found != {"image": mode.INPUT, "restored": mode.OUTPUT}:
            raise BackendError(f"{entry.file} has the tensors {names}, not 'image' and 'restored'")
        types = {name: type_name(engine.get_tensor_dtype(name)) for name in names}
        if set(types.values()) != {expected := "uint8" if entry.io == "image" else "float32"}:
            raise BackendError(
                f"{entry.file} has tensors of the types {types}; the {entry.io!r} form has "
                f"{expected}: build the engine again"
            )


def acquire_engine(
    bundle: Bundle, entry: EngineEntry, cuda: Cuda, *, allow_host_code: bool = False
) -> SharedEngine:
    """An engine of a bundle on a GPU, loaded unless this process already has it.

    Every caller must call `release_engine` afterwards.

    Args:
        bundle: bundle of the engine.
        entry: of the engine.
        cuda: the GPU.
        allow_host_code: whether CPU code of the engine may run.

    Raises:
        BundleError: the engine's file, or the graph or weights for its refit, are missing or have
            changed.
        EngineError: it has no weights and cannot be refitted.
        MissingDependencyError: the library is not installed.
        BackendError: the engine cannot run here (the message has all reasons), or contains CPU code
            without permission.
        OutOfMemoryError: its weights do not fit the memory of the GPU.
    """
    if brings_host_code(entry) and not allow_host_code:
        raise BackendError(
            f"engine {entry.file} is version-compatible, so it contains code that runs on the CPU "
            "as this user. If you trust its author, call load with allow_host_code=True, or "
            "pass --allow-host-code to maxim-run or maxim-deploy serve"
        )
    # Not part of the identity, but contexts of TensorRT for RTX depend on it.
    chosen = json.dumps(entry.runtime, sort_keys=True) if is_portable(entry.library) else ""
    key = (entry.identity + entry.sha256, chosen, cuda.device, cuda.provider)
    with _lock:
        if key not in _shared:
            # This may run long after `load`, for another shape, so the checked bytes are read.
            with unreplaced(bundle.path):
                plan, gpu, notes = _checked(bundle, entry, cuda)
                _shared[key] = SharedEngine(bundle, entry, plan, cuda, gpu, notes)
            logger.debug("loaded %s", entry.file)
        shared = _shared[key]
        shared.users += 1
        return shared


def brings_host_code(entry: EngineEntry) -> bool:
    """Whether the engine contains code that TensorRT would run on the CPU."""
    return bool(entry.made_of.get("version_compatible"))


def release_engine(shared: SharedEngine) -> None:
    """Release an engine. The last user frees its memory. Its contexts must be released before."""
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        for key in [key for key, other in _shared.items() if other is shared]:
            del _shared[key]
        if shared.settings:
            shared.settings.save()
        shared.pool.close()
        # The cache of the settings and the engine are released before their runtime.
        del shared.settings, shared.engine


def _checked(bundle: Bundle, entry: EngineEntry, cuda: Cuda) -> tuple[bytes, Gpu, list[str]]:
    """The engine's bytes, the GPU and remarks, after all checks that need no loading."""
    plan, gpu = bundle.read_engine(entry), find_gpu(cuda.device)
    # The library answers for the current GPU.
    with cuda.active():
        validity = validity_of(entry, plan, gpu)
    reasons = bundle.mismatches(entry) + validity.reasons
    if reasons or gpu is None:
        raise BackendError(f"engine {entry.file} does not run here: {'; '.join(reasons)}")
    return plan, gpu, validity.notes


def library_name(trt: ModuleType, entry: EngineEntry) -> str:
    """The library and its version, such as "tensorrt-rtx 1.7.1"."""
    return f"{entry.library} {trt.__version__}"
