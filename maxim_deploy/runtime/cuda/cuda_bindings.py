"""CUDA through cuda-bindings: the runtime API in the primary context."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.runtime.cuda.interface import (
    DEFAULT_STREAM,
    DeviceMemory,
    Event,
    Graph,
    Stream,
    nothing_to_give_back,
)


class CudaBindings:
    """Implements `maxim_deploy.runtime.cuda.Cuda`."""

    provider = "cuda-bindings"
    has_graphs = True

    def __init__(self, device: int = 0) -> None:
        self._api = require("cuda.bindings.runtime", "rtx")
        self.device = device
        with self.active():
            # An empty call makes the primary context, or fails with the reason.
            self._call("cudaFree", 0)
        supported = self._api.cudaDeviceAttr.cudaDevAttrMemoryPoolsSupported
        self._has_pools = bool(self._call("cudaDeviceGetAttribute", supported, device))

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """As in `Cuda`."""
        before = self._answer("cudaGetDevice")
        if before == self.device:
            # A new thread has this device by default, but no context before the first call.
            self._answer("cudaSetDevice", self.device)
            yield
            return
        self._answer("cudaSetDevice", self.device)
        try:
            yield
        finally:
            self._answer("cudaSetDevice", before)

    def allocate(self, size: int, stream: Stream | None = None) -> DeviceMemory:
        """As in `Cuda`."""
        if stream and self._has_pools:
            address = int(self._call("cudaMallocAsync", size, stream.native))
            give_back = partial(self._free, "cudaFreeAsync", address, stream.native)
            return DeviceMemory(address, size, give_back)
        address = int(self._call("cudaMalloc", size))
        return DeviceMemory(address, size, partial(self._free, "cudaFree", address))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """As in `Cuda`."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        held = max(size, 1)
        address = int(self._call("cudaHostAlloc", held, self._api.cudaHostAllocDefault))
        # Every view of the array refers to this buffer. The last one frees the memory.
        buffer = (ctypes.c_uint8 * held).from_address(address)
        finalizer = weakref.finalize(buffer, partial(self._free, "cudaFreeHost", address))
        finalizer.atexit = False
        array: NDArray[Any] = np.frombuffer(memoryview(buffer), np.uint8)[:size]
        return array.view(dtype).reshape(shape)

    def stream(self) -> Stream:
        """As in `Cuda`."""
        flags = self._api.cudaStreamNonBlocking
        native = self._call("cudaStreamCreateWithFlags", flags)
        return Stream(int(native), native, partial(self._free, "cudaStreamDestroy", native))

    def wrap_stream(self, handle: int) -> Stream:
        """As in `Cuda`."""
        handle = handle or DEFAULT_STREAM
        return Stream(handle, self._api.cudaStream_t(handle), nothing_to_give_back)

    def event(self) -> Event:
        """As in `Cuda`."""
        native = self._call("cudaEventCreate")
        return Event(native, partial(self._free, "cudaEventDestroy", native))

    def record(self, event: Event, stream: Stream) -> None:
        """As in `Cuda`."""
        self._call("cudaEventRecord", event.native, stream.native)

    def wait(self, stream: Stream, event: Event) -> None:
        """As in `Cuda`."""
        self._call("cudaStreamWaitEvent", stream.native, event.native, 0)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """As in `Cuda`."""
        self._call("cudaEventSynchronize", end.native)
        return float(self._call("cudaEventElapsedTime", start.native, end.native))

    def upload(self, address: int, array: NDArray[Any], stream: Stream) -> None:
        """As in `Cuda`."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        source = array.ctypes.data
        self._call("cudaMemcpyAsync", address, source, array.nbytes, kind, stream.native)

    def download(self, array: NDArray[Any], address: int, stream: Stream) -> None:
        """As in `Cuda`."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        target = array.ctypes.data
        self._call("cudaMemcpyAsync", target, address, array.nbytes, kind, stream.native)

    def synchronize(self, stream: Stream | None = None) -> None:
        """As in `Cuda`."""
        if stream is None:
            self._call("cudaDeviceSynchronize")
        else:
            self._call("cudaStreamSynchronize", stream.native)

    def device_of(self, address: int) -> int | None:
        """As in `Cuda`."""
        return int(self._call("cudaPointerGetAttributes", address).device)

    def memory(self) -> tuple[int, int]:
        """As in `Cuda`."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """As in `Cuda`."""
        # Thread-local: allocations of other threads do not break the capture.
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with _without_collections():
            self._call("cudaStreamBeginCapture", stream.native, mode)
            try:
                work()
            except BaseException:
                # The stream must leave the capture. A second failure adds no information.
                with contextlib.suppress(BackendError):
                    self._call("cudaStreamEndCapture", stream.native)
                raise
            captured = self._call("cudaStreamEndCapture", stream.native)
        try:
            ready = self._call("cudaGraphInstantiate", captured, 0)
        finally:
            self._call("cudaGraphDestroy", captured)
        return Graph(ready, partial(self._free, "cudaGraphExecDestroy", ready))

    def launch(self, graph: Graph, stream: Stream) -> None:
        """As in `Cuda`."""
        self._call("cudaGraphLaunch", graph.native, stream.native)

    def _free(self, name: str, *arguments: Any) -> None:
        # The garbage collector may call this in any thread, so no exception may escape.
        with contextlib.suppress(BackendError):
            self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function on our GPU and return its result."""
        with self.active():
            return self._answer(name, *arguments)

    def _answer(self, name: str, *arguments: Any) -> Any:
        """Call a function that returns (error, result...), and return the result."""
        error, *results = getattr(self._api, name)(*arguments)
        if int(error):
            # Cleared: otherwise the next caller, such as TensorRT, takes the error as its own.
            self._api.cudaGetLastError()
            text = f"{name} failed on GPU {self.device}: {error.name}"
            if error == self._api.cudaError_t.cudaErrorMemoryAllocation:
                free = self._api.cudaMemGetInfo()[1]
                raise OutOfMemoryError(f"{text}, {free} bytes are free")
            raise BackendError(text)
        return results[0] if len(results) == 1 else results


_capturing = threading.Lock()


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector during a capture. One thread at a time.

    Freeing any device memory in a capturing thread breaks the capture.
    """
    with _capturing:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()
