"""CUDA through pycuda, in the primary context.

Never use `pycuda.autoinit`: it makes its own context, in which memory of TensorRT or torch does not
exist. pycuda supports neither CUDA graphs nor external streams.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike, NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, OutOfMemoryError, UsageError
from maxim_deploy.runtime.cuda.interface import (
    DeviceMemory,
    Event,
    Graph,
    Stream,
    nothing_to_give_back,
)

NON_BLOCKING = 1
"""The driver API's CU_STREAM_NON_BLOCKING, which pycuda does not name."""


class PyCuda:
    """Implements `maxim_deploy.runtime.cuda.Cuda`."""

    provider = "pycuda"
    has_graphs = False

    def __init__(self, device: int = 0) -> None:
        self._api = require("pycuda.driver", "pycuda")
        self.device = device
        with self._errors("cuInit"):
            self._api.init()
            self._context = self._api.Device(device).retain_primary_context()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """As in `Cuda`."""
        # Pushed rather than set, so the pop restores the thread's own context.
        with self._errors("cuCtxPushCurrent"):
            self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, size: int, stream: Stream | None = None) -> DeviceMemory:  # noqa: ARG002
        """As in `Cuda`."""
        with self._calling("mem_alloc"):
            memory = self._api.mem_alloc(size)
        return DeviceMemory(int(memory), size, partial(self._free, memory))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """As in `Cuda`."""
        # CUDA cannot lock an empty block.
        if not math.prod(shape):
            return np.empty(shape, dtype)
        with self._calling("pagelocked_empty"):
            array: NDArray[Any] = self._api.pagelocked_empty(shape, dtype)
        return array

    def stream(self) -> Stream:
        """As in `Cuda`."""
        with self._calling("Stream"):
            native = self._api.Stream(NON_BLOCKING)
        # pycuda destroys it with its last reference, in the right context.
        return Stream(native.handle, native, nothing_to_give_back)

    def wrap_stream(self, handle: int) -> Stream:
        """As in `Cuda`."""
        raise UsageError(
            f"pycuda cannot use an external CUDA stream ({handle:#x}); omit stream, or use the "
            "provider 'cuda-bindings'"
        )

    def event(self) -> Event:
        """As in `Cuda`."""
        with self._calling("Event"):
            return Event(self._api.Event(), nothing_to_give_back)

    def record(self, event: Event, stream: Stream) -> None:
        """As in `Cuda`."""
        with self._calling("Event.record"):
            event.native.record(stream.native)

    def wait(self, stream: Stream, event: Event) -> None:
        """As in `Cuda`."""
        with self._calling("Stream.wait_for_event"):
            stream.native.wait_for_event(event.native)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """As in `Cuda`."""
        with self._calling("Event.time_since"):
            end.native.synchronize()
            return float(end.native.time_since(start.native))

    def upload(self, address: int, array: NDArray[Any], stream: Stream) -> None:
        """As in `Cuda`."""
        with self._calling("memcpy_htod_async"):
            self._api.memcpy_htod_async(address, array, stream.native)

    def download(self, array: NDArray[Any], address: int, stream: Stream) -> None:
        """As in `Cuda`."""
        with self._calling("memcpy_dtoh_async"):
            self._api.memcpy_dtoh_async(array, address, stream.native)

    def synchronize(self, stream: Stream | None = None) -> None:
        """As in `Cuda`."""
        with self._calling("synchronize"):
            (self._context if stream is None else stream.native).synchronize()

    def device_of(self, address: int) -> int | None:  # noqa: ARG002
        """As in `Cuda`."""
        return None

    def memory(self) -> tuple[int, int]:
        """As in `Cuda`."""
        with self._calling("mem_get_info"):
            free, total = self._api.mem_get_info()
        return int(free), int(total)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """As in `Cuda`."""
        _no_graphs(stream, work)

    def launch(self, graph: Graph, stream: Stream) -> None:
        """As in `Cuda`."""
        _no_graphs(graph, stream)

    def _free(self, memory: Any) -> None:
        # The garbage collector may call this in any thread, so no exception may escape.
        with contextlib.suppress(BackendError), self._calling("DeviceAllocation.free"):
            memory.free()

    @contextlib.contextmanager
    def _calling(self, name: str) -> Iterator[None]:
        with self.active(), self._errors(name):
            yield

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Convert pycuda's errors to ours. Their text has the call and CUDA's description."""
        try:
            yield
        except self._api.MemoryError as error:
            raise OutOfMemoryError(f"{name} failed on GPU {self.device}: {error}") from error
        except self._api.Error as error:
            raise BackendError(f"{name} failed on GPU {self.device}: {error}") from error


def _no_graphs(*_: object) -> NoReturn:
    raise BackendError("pycuda has no CUDA graphs; use the provider 'cuda-bindings'")
