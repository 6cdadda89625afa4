"""The device memory that the contexts of an engine use, one at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from maxim_deploy.runtime.cuda import Cuda, DeviceMemory, Stream


class Pool:
    """A block of device memory that grows to the need of the largest shape so far.

    TensorRT would give each context memory for the largest shape of all profiles.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._lock = cuda, threading.Lock()
        self._last_use = cuda.event()
        self._memory: DeviceMemory | None = None

    @property
    def size(self) -> int:
        """Bytes that the pool holds."""
        return self._memory.size if self._memory else 0

    @contextlib.contextmanager
    def turn(self, stream: Stream) -> Iterator[None]:
        """Use the memory for the work that the block enqueues in a stream.

        The stream waits on the device for the previous user in another stream.
        """
        with self._lock:
            self._cuda.wait(stream, self._last_use)
            try:
                yield
            finally:
                # Also on failure: earlier enqueued work may still use the memory.
                self._cuda.record(self._last_use, stream)

    def reserve(self, size: int, stream: Stream) -> int:
        """The address of at least this many bytes. Call it in a turn. Growing changes the address.

        Raises:
            OutOfMemoryError: the device has too little memory. The pool is then empty but usable.
        """
        if size > self.size:
            # The stream waits for the last use of the block, so freeing is safe. It is freed before
            # the new allocation, because both together may not fit.
            if self._memory:
                self._cuda.synchronize(stream)
            self.close()
            self._memory = self._cuda.allocate(size)
        return self._memory.address if self._memory else 0

    def release(self) -> None:
        """Free the memory after the enqueued work. The next run allocates again."""
        with self._lock:
            if self._memory:
                # The last use may be in any stream.
                self._cuda.synchronize()
            self.close()

    def close(self) -> None:
        """Free the memory. Nothing may run in it."""
        if self._memory:
            self._memory.close()
        self._memory = None
