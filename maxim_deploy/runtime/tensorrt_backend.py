"""TensorRT and TensorRT for RTX.

Written against the documented API and tested at its surface. See "What ran where" in README.md.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.cuda import (
    DEFAULT_STREAM,
    Cuda,
    DeviceArray,
    Stream,
    array_on_gpu,
    open_cuda,
)
from maxim_deploy.runtime.engine_set import EngineSet
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.tensorrt_contexts import Key
from maxim_deploy.runtime.tensorrt_engines import acquire_engine, library_name, release_engine
from maxim_deploy.runtime.tensorrt_lane import Lane
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.profiles import Shape

logger = logging.getLogger(__name__)

LANES = 2
"""Concurrent runs: one computes while the other transfers pictures."""

ALIGNMENT = 256
"""Alignment of addresses for TensorRT."""


class TensorRtBackend(Backend):
    """An engine of a bundle.

    All backends of this process with the same engine on the same GPU share the deserialized engine
    and its memory.

    Args:
        bundle: bundle of the engine.
        entry: manifest entry of the engine. The file's hash is checked.
        cuda: the GPU to run on.
        stream: handle of a CUDA stream for all work, one run after another; None for own streams.
        allow_host_code: whether CPU code of the engine may run.

    Raises:
        BundleError: a file is missing or has changed.
        MissingDependencyError: the library is not installed.
        BackendError: the engine cannot run here; the message has all reasons.
        OutOfMemoryError: its weights do not fit the memory of the GPU.
        UsageError: the provider of CUDA cannot use external streams.
    """

    uses_host_memory = False
    warmup_runs = 2
    """CUDA graphs are captured in the second run.

    TensorRT for RTX compiles in the background for an unknown number of runs.
    """

    def __init__(
        self,
        bundle: Bundle,
        entry: EngineEntry,
        cuda: Cuda,
        *,
        stream: int | None = None,
        allow_host_code: bool = False,
    ) -> None:
        self.name, self.precision, self.io = entry.library, entry.precision, entry.io
        self.profiles = entry.profiles
        self.lanes = LANES if stream is None else 1
        self._entry, self._cuda = entry, cuda
        self._external = None if stream is None else cuda.wrap_stream(stream)
        self._shared = acquire_engine(bundle, entry, cuda, allow_host_code=allow_host_code)
        self._uncaptured = ""
        self.library = library_name(self._shared.trt, entry)
        self.device = f"cuda:{cuda.device} {self._shared.gpu.name}"
        self._closing = threading.Lock()
        # Last in, first out: a single caller gets the same lane with its contexts and graphs.
        self._free: queue.LifoQueue[Lane | None] = queue.LifoQueue()
        try:
            streams = [self._external or cuda.stream() for _ in range(self.lanes)]
            self._lanes = [self._lane(stream) for stream in streams]
        except BaseException:
            release_engine(self._shared)
            raise
        for lane in self._lanes:
            self._free.put(lane)

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """Restore a batch in host memory, in the graph's form. Returns the same shape and type.

        Raises:
            OutOfMemoryError: there is not enough device memory for this shape.
            BackendError: no profile takes the shape, the engine failed, or this is closed.
        """
        key = self._key(image.shape, image.dtype)
        with self._one_lane() as lane:
            return lane.run(key, image)

    def device_array(self, array: Any) -> DeviceArray:
        """As `Backend.device_array`."""
        stream = self._external.handle if self._external else DEFAULT_STREAM
        return array_on_gpu(array, self._cuda, stream)

    def run_on_device(self, image: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
        """Restore a batch in device memory, in the graph's form, without a copy.

        If this backend has a stream, the call returns when the work is enqueued, and the arrays
        must live until it is done. Otherwise it returns when the work is done. The second call with
        the same addresses captures a CUDA graph, which later calls launch.

        Args:
            image: array on this GPU, at an address that is a multiple of 256.
            out: array for the result; None for new memory, which the result owns. With a stream it
                is allocated and freed in the stream's order, and the stream must outlive it.

        Raises:
            UsageError: `out` has another shape or type, or an address is not aligned.
            OutOfMemoryError: there is not enough device memory for this shape.
            BackendError: no profile takes the shape, the engine failed, or this is closed.
        """
        key = self._key(image.shape, image.dtype)
        self._check_arrays(image, out)
        with self._one_lane() as lane:
            if out is None:
                # In the caller's stream nothing waits. A result from our own stream may be in use
                # in any stream when it is freed, so freeing waits for the device.
                memory = self._cuda.allocate(image.nbytes, self._external)
                out = DeviceArray(memory.address, image.shape, image.dtype, None, memory)
            lane.wait_for(image)
            lane.wait_for(out)
            try:
                lane.enqueue(key, image.address, out.address)
            finally:
                # Also on failure: the caller may free the arrays while the device still uses them.
                if not self._external:
                    self._cuda.synchronize(lane.stream)
            written_in = self._external.handle if self._external else None
            return DeviceArray(out.address, out.shape, out.dtype, written_in, out.owner)

    def takes(self, shape: Shape) -> bool:
        """Whether the engine has a profile for the shape."""
        return self._entry.profile_for(shape) is not None

    def bytes_for(self, shape: Shape) -> int:
        """Device memory of a run: an estimate until the shape has run, then exact.

        The estimate scales the library's figure for the profile's largest shape by padded pixels.
        """
        index, dims = self._profile(shape), shape.dims(self.io)
        known = self._shared.sizes.get((index, dims))
        if known is None:
            largest = self._entry.profiles[index].max
            share = shape.padded_pixels / largest.padded_pixels
            figure = self._shared.bytes_of_profile(index)
            known = math.ceil(share * (figure or self._entry.memory.get("activation_bytes", 0)))
        return known + 2 * math.prod(dims) * _dtype(self.io).itemsize

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`: the library's remarks on this GPU, and why graphs are not used."""
        return (*self._shared.notes, *filter(None, [self._uncaptured]))

    def free_bytes(self) -> int:
        """Free device memory, including what this backend holds."""
        return self._cuda.memory()[0] + self.held_bytes()

    def held_bytes(self) -> int:
        """Device memory of the largest runs so far."""
        return self._shared.pool.size + sum(lane.held_bytes for lane in self._lanes)

    def release(self) -> None:
        """Free buffers, activations and CUDA graphs that no run uses now.

        Other backends with the same engine allocate activations again, too.
        """
        # `close` takes every lane for itself, so they are not taken from it one by one.
        with self._closing, self._cuda.active():
            lanes = self._idle_lanes()
            try:
                for lane in lanes:
                    lane.release()
            finally:
                for lane in reversed(lanes):
                    self._free.put(lane)
            if len(lanes) == len(self._lanes):
                self._shared.pool.release()

    def close(self) -> None:
        """Wait for current runs and free everything. Further calls fail."""
        with self._closing, self._cuda.active():
            lanes, self._lanes = self._lanes, []
            if not lanes:
                return
            # All lanes are taken here, so nothing runs. A waiting caller gets None and raises.
            for _ in lanes:
                self._free.get()
            self._free.put(None)
            for lane in lanes:
                lane.close()
            release_engine(self._shared)

    def _lane(self, stream: Stream) -> Lane:
        # TensorRT for RTX captures graphs itself.
        captures = (
            not is_portable(self.name)
            and self._cuda.has_graphs
            and self._entry.runtime["cuda_graphs"] != "off"
        )
        on_failure = self._without_graphs if captures else None
        return Lane(self._shared, self._cuda, stream, on_failure)

    def _without_graphs(self, error: Exception) -> None:
        """Report a failed capture once. Every shape tries again."""
        if not self._uncaptured:
            self._uncaptured = f"running without CUDA graphs: {error}"
            logger.warning("%s", self._uncaptured)

    def _idle_lanes(self) -> list[Lane]:
        """Take the lanes without a run. None of a closed backend."""
        idle: list[Lane] = []
        while len(idle) < len(self._lanes):
            try:
                lane = self._free.get_nowait()
            except queue.Empty:
                break
            if lane:
                idle.append(lane)
        return idle

    @contextlib.contextmanager
    def _one_lane(self) -> Iterator[Lane]:
        lane = self._free.get()
        try:
            if lane is None:
                raise BackendError("this engine is closed; load the bundle again")
            with self._cuda.active():
                yield lane
                lane.keep_kernels()
        finally:
            self._free.put(lane)

    def _key(self, dims: tuple[int, ...], dtype: np.dtype[Any]) -> Key:
        """The profile for an array. Raises an error for an array of another form."""
        if len(dims) == 4 and dtype == _dtype(self.io):
            shape = Shape.from_dims(dims, self.io)
            if dims == shape.dims(self.io):
                return self._profile(shape), dims
        raise BackendError(
            f"the {self.io!r} form takes {_dtype(self.io)} {Shape(1, 0, 0).dims(self.io)} with "
            f"any batch, height and width, not {dtype} {dims}"
        )

    def _profile(self, shape: Shape) -> int:
        index = self._entry.profile_for(shape)
        if index is None:
            file = self._entry.file
            raise BackendError(f"{shape} | no profile of {file} accepts it: {self.sizes}")
        return index

    def _check_arrays(self, image: DeviceArray, out: DeviceArray | None) -> None:
        for array in filter(None, (image, out)):
            if array.address % ALIGNMENT:
                raise UsageError(
                    f"TensorRT takes addresses in multiples of {ALIGNMENT}, not "
                    f"{array.address:#x}: make a copy, array.clone() in torch"
                )
        if out and ((out.shape, out.dtype) != (image.shape, image.dtype) or out.read_only):
            raise UsageError(
                f"out must be writable, {image.dtype} {image.shape}, not {out.dtype} {out.shape}"
            )


def open_engines(request: Request) -> EngineSet:
    """Open a bundle's engines for the library of a request.

    Raises:
        BundleError: the bundle has no engine for it.
        BackendError: as `TensorRtBackend`, or there is no GPU.
        MissingDependencyError, OutOfMemoryError, UsageError: as `TensorRtBackend`.
    """
    entries = request.best_engines()
    request.require_gpu()
    cuda = open_cuda(request.cuda, request.device)
    return EngineSet(
        entries,
        lambda entry: TensorRtBackend(
            request.bundle,
            entry,
            cuda,
            stream=request.stream,
            allow_host_code=request.allow_host_code,
        ),
    )


def _dtype(io: str) -> np.dtype[Any]:
    return np.dtype(np.uint8 if io == "image" else np.float32)
