"""The interface to CUDA, and the objects that it hands out."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

DEFAULT_STREAM = 1
"""Handle of CUDA's default stream. It has another one, 0, which the array protocols forbid."""


class _Owned:
    """A CUDA object that is released once: by `close`, or when no reference is left.

    Args:
        native: the provider's own object for it.
        give_back: it must not refer to this object, or nothing would ever be given back.
    """

    def __init__(self, native: Any, give_back: Callable[[], None]) -> None:
        self.native = native
        self._finalizer = weakref.finalize(self, give_back)
        # The end of the process frees everything, and the driver may be gone by then.
        self._finalizer.atexit = False

    def close(self) -> None:
        """Give it back now. Closing twice does nothing."""
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
    """A mark in a stream."""


class Graph(_Owned):
    """A CUDA graph, ready to launch. It holds the addresses that its work was captured with."""


def nothing_to_give_back() -> None:
    """For an object with another owner, or one that frees itself."""


class Cuda(Protocol):
    """CUDA on one GPU. May be used from any thread.

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
        """Make the GPU current in this thread for a block, for libraries that use the current one.

        What was current before is current again afterwards.
        """

    def allocate(self, size: int, stream: Stream | None = None) -> DeviceMemory:
        """A new block of at least one byte of device memory. Not cleared.

        With a stream it is for later work in that stream, and is given back in the stream's order:
        nothing waits, and the next block is likely to have the same address. Without one, giving it
        back waits until the device is done with it. A provider may ignore the stream.
        """

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A new array in page-locked host memory, freed with its last view. Not cleared."""

    def stream(self) -> Stream:
        """A new stream that does not wait for the default one."""

    def wrap_stream(self, handle: int) -> Stream:
        """A stream of somebody else's, such as `torch.cuda.current_stream().cuda_stream`.

        The handle 0 is made `DEFAULT_STREAM`, the same stream under the name that arrays may have.

        Raises:
            UsageError: the provider cannot use one.
        """

    def event(self) -> Event:
        """A new event."""

    def record(self, event: Event, stream: Stream) -> None:
        """Let the event stand for all work that is in the stream now."""

    def wait(self, stream: Stream, event: Event) -> None:
        """Let later work in the stream wait for the event; this thread does not wait."""

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds of GPU time between two recorded events; waits for the second."""

    def upload(self, address: int, array: NDArray[Any], stream: Stream) -> None:
        """Copy a C-contiguous array to the device; it may be used again when the stream got there.

        Only from page-locked memory does the copy overlap with anything.
        """

    def download(self, array: NDArray[Any], address: int, stream: Stream) -> None:
        """Copy from the device into a C-contiguous array, valid when the stream got there."""

    def synchronize(self, stream: Stream | None = None) -> None:
        """Wait for all work in a stream, or on the whole device."""

    def device_of(self, address: int) -> int | None:
        """The GPU that an address belongs to; None if the provider cannot tell."""

    def memory(self) -> tuple[int, int]:
        """Bytes of device memory: (free, total)."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Record what `work` enqueues in the stream, without running it.

        The stream must not be the default one, and no other thread may enqueue in it meanwhile. It
        is out of capture again if `work` raises.
        """

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Enqueue a captured graph."""
