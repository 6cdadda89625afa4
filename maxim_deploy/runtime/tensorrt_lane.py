"""A lane: sequential runs of an engine with their buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.runtime.cuda import Cuda, DeviceArray, DeviceMemory, Stream
from maxim_deploy.runtime.tensorrt_contexts import Addresses, Context, Contexts, Key, OnFailure
from maxim_deploy.runtime.tensorrt_engines import SharedEngine


class Lane:
    """A stream with its contexts and buffers. Not thread-safe: one thread uses it at a time.

    The buffers grow to the largest image so far. Growing changes their addresses, so CUDA graphs
    are captured again.

    Args:
        shared: the engine.
        cuda: the GPU.
        stream: stream for all work.
        on_failure: called with the reason against a CUDA graph; None to capture none.
    """

    def __init__(
        self, shared: SharedEngine, cuda: Cuda, stream: Stream, on_failure: OnFailure | None
    ) -> None:
        self._shared, self._cuda, self.stream = shared, cuda, stream
        self._contexts = Contexts(lambda: Context(shared, cuda, stream, on_failure))
        self._runs = 0
        self._host: list[NDArray[np.uint8]] = []
        self._device: list[DeviceMemory] = []

    @property
    def held_bytes(self) -> int:
        """Device memory of its buffers."""
        return sum(memory.size for memory in self._device)

    def run(self, key: Key, image: NDArray[Any]) -> NDArray[Any]:
        """Restore an array in host memory. Returns a new array."""
        self._grow(image.nbytes)
        staged, restored = (
            host[: image.nbytes].view(image.dtype).reshape(image.shape) for host in self._host
        )
        source, target = self._device
        np.copyto(staged, image)
        try:
            self._cuda.upload(source.address, staged, self.stream)
            self.enqueue(key, source.address, target.address)
            self._cuda.download(restored, target.address, self.stream)
        finally:
            # Also on failure, because the next run uses these buffers.
            self._cuda.synchronize(self.stream)
        # Copied: the caller keeps the result, and the next run overwrites the staging buffer.
        return restored.copy()

    def wait_for(self, image: DeviceArray) -> None:
        """Make the stream wait until an external stream has written an array."""
        if image.stream is None or image.stream == self.stream.handle:
            return
        if self._cuda.provider == "pycuda":
            # The provider cannot wait for an external stream, so it waits for the device.
            self._cuda.synchronize()
            return
        written = self._cuda.event()
        self._cuda.record(written, self._cuda.wrap_stream(image.stream))
        self._cuda.wait(self.stream, written)

    def enqueue(self, key: Key, image: int, restored: int) -> None:
        """Enqueue a run from one device address to another."""
        with self._shared.pool.turn(self.stream):
            context = self._contexts.get(key)
            memory = self._shared.pool.reserve(context.size, self.stream)
            context.enqueue(Addresses(memory, self._shared.pool.size, image, restored))
            self._runs = context.runs

    def keep_kernels(self) -> None:
        """Save kernels compiled by TensorRT for RTX after runs 1, 2, 4, 8 and so on of a shape.

        It compiles in the background and does not report the end.
        """
        # Never in a turn of the pool: writing a file takes longer than many runs.
        if self._shared.settings and self._runs.bit_count() == 1:
            self._shared.settings.save_at_times()

    def release(self) -> None:
        """Free buffers and CUDA graphs after the stream's work. Contexts stay."""
        self._cuda.synchronize(self.stream)
        self._contexts.release()
        self._free()

    def close(self) -> None:
        """Free everything after the stream's work."""
        self._cuda.synchronize(self.stream)
        self._contexts.close()
        self._free()
        self.stream.close()

    def _grow(self, size: int) -> None:
        if self._device and self._device[0].size >= size:
            return
        # The old buffers are freed first, because both pairs together may not fit.
        self._free()
        device = [self._cuda.allocate(size) for _ in range(2)]
        # Page-locked, because only such copies overlap with another lane's run.
        host = [self._cuda.pinned((size,), np.uint8) for _ in range(2)]
        # All four or none: the next run assumes that a known size is complete.
        self._device, self._host = device, host

    def _free(self) -> None:
        for memory in self._device:
            memory.close()
        self._device, self._host = [], []
