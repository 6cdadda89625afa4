"""The interface to CUDA and its objects."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

DEFAULT_STREAM = 1
"""Handle of CUDA's default stream. Its other handle, 0, is forbidden by the array protocols."""


class _Owned:
    """A CUDA object that is released once: by `close`, or with its last reference.

    Args:
        native: the provider's object.
        give_back: releases the object. It must not refer to this object, or it would never run.
    """

    def __init__(self, native: Any, give_back: Callable[[], None]) -> None:
        self.native = native
        self._finalizer = weakref.finalize(self, give_back)
        # At exit the system frees everything, and the driver may already be unloaded.
        self._finalizer.atexit = False

    def close(self) -> None:
        """Release it now. A second call does nothing."""
        self._finalizer()


class DeviceMemory(_Owned):
    """A block of device memory: its `address`, aligned to 256 bytes, and its `size` in bytes."""

    def __init__(self, address: int, size: int, give_back: Callable[[], None]) -> None:
        super().__init__(address, give_back)
        self.address, self.size = address, size


class Stream(_Owned):
    """A queue of work on the device: its `handle`, a `cudaStream_t` as a number."""

    def __init__(self, handle: int, native: Any, give_back: Callable[[], None]) -> None:
        super().__init__(native, give_back)
        self.handle = handle


class Event(_Owned):
    """A position in a stream."""


class Graph(_Owned):
    """A CUDA graph, ready to launch. It contains the addresses of its capture."""


def nothing_to_give_back() -> None:
    """Do nothing, for an object with another owner or that frees itself."""


class Cuda(Protocol):
    """CUDA on one GPU. Any thread may use it.

    Every call raises `OutOfMemoryError` if the device or the
    page-locked memory runs out, and `BackendError` with CUDA's name for any other failure.

    Attributes:
        provider: "cuda-bindings" or "pycuda".
        device: index of the GPU.
        has_graphs: whether `capture` and `launch` can be called.
    """

    provider: str
    device: int
    has_graphs: bool

    def active(self) -> AbstractContextManager[None]:
        """Make the GPU current in this thread during the block, for libraries that use it.

        Afterwards the previous GPU is current again.
        """

    def allocate(self, size: int, stream: Stream | None = None) -> DeviceMemory:
        """A new block of at least one byte of device memory. Not cleared.

        With a stream, it serves later work in this stream and is freed in the stream's order,
        without waiting. The next block likely has the same address. Without a stream, freeing waits
        for the device. A provider may ignore the stream.
        """

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A new array in page-locked host memory, freed with its last view. Not cleared."""

    def stream(self) -> Stream:
        """A new stream that does not wait for the default one."""

    def wrap_stream(self, handle: int) -> Stream:
        """An external stream, such as `torch.cuda.current_stream().cuda_stream`.

        The handle 0 becomes `DEFAULT_STREAM`, the same stream with a handle that arrays may have.

        Raises:
            UsageError: the provider does not support external streams.
        """

    def event(self) -> Event:
        """A new event."""

    def record(self, event: Event, stream: Stream) -> None:
        """Record the event after all present work of the stream."""

    def wait(self, stream: Stream, event: Event) -> None:
        """Make later work of the stream wait for the event. This thread does not wait."""

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds of GPU time between two recorded events. Waits for the second."""

    def upload(self, address: int, array: NDArray[Any], stream: Stream) -> None:
        """Copy a C-contiguous array to the device. Keep it unchanged until the copy is done.

        Only copies from page-locked memory overlap with other work.
        """

    def download(self, array: NDArray[Any], address: int, stream: Stream) -> None:
        """Copy from the device into a C-contiguous array.

        It is valid once the stream has done so.
        """

    def synchronize(self, stream: Stream | None = None) -> None:
        """Wait for all work of a stream or of the whole device."""

    def device_of(self, address: int) -> int | None:
        """The GPU of an address; None if the provider cannot determine it."""

    def memory(self) -> tuple[int, int]:
        """Bytes of device memory: (free, total)."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Record the work that `work` enqueues in the stream, without running it.

        The stream must not be the default one, and no other thread may enqueue in it meanwhile. If
        `work` raises, the capture ends too.
        """

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Enqueue a captured graph."""
