"""The device memory in which the contexts of one engine run, one at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from maxim_deploy.runtime.cuda import Cuda, DeviceMemory, Stream


class Pool:
    """One block of device memory that grows to what the largest shape so far needs.

    TensorRT would give each context memory for the largest shape of all its profiles.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._lock = cuda, threading.Lock()
        self._last_use = cuda.event()
        self._memory: DeviceMemory | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._memory.size if self._memory else 0

    @contextlib.contextmanager
    def turn(self, stream: Stream) -> Iterator[None]:
        """Have the memory for what a block enqueues in a stream.

        The stream waits, on the device, for whoever had it before in another stream.
        """
        with self._lock:
            self._cuda.wait(stream, self._last_use)
            try:
                yield
            finally:
                # On failure, too: what was enqueued before it may still use the memory.
                self._cuda.record(self._last_use, stream)

    def reserve(self, size: int, stream: Stream) -> int:
        """The address of at least so many bytes; call it in one's turn. It changes on growing.

        Raises:
            OutOfMemoryError: the device has not enough. The pool is then empty, and usable.
        """
        if size > self.size:
            # The stream waits for the last use of the block, so it may be freed then. It goes
            # before the new one comes: both at a time need not fit.
            if self._memory:
                self._cuda.synchronize(stream)
            self.close()
            self._memory = self._cuda.allocate(size)
        return self._memory.address if self._memory else 0

    def close(self) -> None:
        """Free the memory; nothing may be running in it."""
        if self._memory:
            self._memory.close()
        self._memory = None
