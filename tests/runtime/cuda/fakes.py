"""CUDA without a GPU: host memory stands in for the device's, and every call is written down."""

# ruff: noqa: N802, N815  (the names are CUDA's)

from __future__ import annotations

import ctypes
import threading
from types import SimpleNamespace

import cuda.bindings.runtime as real
import numpy as np

ERRORS = real.cudaError_t

UNSAFE = ("cudaMalloc", "cudaFree", "cudaFreeHost", "cudaHostAlloc", "cudaEventDestroy")
"""What spoils a capture of the thread that calls it."""


class OfThread(threading.local):
    """What CUDA keeps for each thread: which GPU is current, and what it captures."""

    current = 7
    captured: list[object] | None = None
    is_spoiled = False


class FakeRuntime:
    """`cuda.bindings.runtime`: calls that the provider makes, with the argument counts checked."""

    cudaError_t, cudaMemcpyKind = ERRORS, real.cudaMemcpyKind
    cudaStreamCaptureMode, cudaStream_t = real.cudaStreamCaptureMode, real.cudaStream_t
    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0
    cudaDeviceAttr = real.cudaDeviceAttr

    def __init__(self, total: int = 1 << 20) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.fail: dict[str, object] = {}
        self.blocks: dict[int, object] = {}
        self.here = OfThread()
        self.graphs: dict[int, list[object]] = {}
        self.freed_in_order: dict[int, list[int]] = {}
        self.total, self._next = total, 100
        self.device_of_memory, self.has_pools = 0, 1

    @property
    def current(self) -> int:
        return self.here.current

    def __getattr__(self, name: str):
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: object) -> tuple[object, ...]:
            expected = parameters(name)
            assert len(arguments) == len(expected), f"{name}{expected} called with {arguments}"
            self.calls.append((name, *arguments))
            if self.here.captured is not None and name in UNSAFE:
                self.here.is_spoiled = True
            if name in self.fail:
                return (self.fail[name], *[None] * results(name))
            return (ERRORS.cudaSuccess, *getattr(self, f"_{name}", lambda *_: ())(*arguments))

        return call

    def named(self, *names: str) -> list[tuple[object, ...]]:
        return [call for call in self.calls if call[0] in names]

    def _block(self, size: int) -> tuple[int]:
        block = ctypes.create_string_buffer(size + 256)
        address = -(-ctypes.addressof(block) // 256) * 256
        self.blocks[address] = block, size
        return (address,)

    def used(self) -> int:
        return sum(size for _, size in self.blocks.values())  # type: ignore[has-type, misc]

    def _handle(self, *_: object) -> tuple[object]:
        self._next += 1
        return (real.cudaStream_t(self._next),)

    def _cudaMalloc(self, size: int):
        if self.used() + size > self.total:
            self.calls.append(("refused", size))
            raise _OutOfMemory
        return self._block(size)

    def cudaMalloc(self, size: int):
        self.calls.append(("cudaMalloc", size))
        try:
            return (ERRORS.cudaSuccess, *self._cudaMalloc(size))
        except _OutOfMemory:
            return ERRORS.cudaErrorMemoryAllocation, None

    def _cudaMallocAsync(self, size: int, _stream):
        """A block that was freed in the order of the stream comes again."""
        again = self.freed_in_order.get(size)
        return (again.pop(),) if again else self._block(size)

    def _cudaFreeAsync(self, address: int, _stream):
        self.freed_in_order.setdefault(self.blocks[address][1], []).append(address)
        return ()

    def _cudaDeviceGetAttribute(self, attribute, _device: int):
        assert attribute == real.cudaDeviceAttr.cudaDevAttrMemoryPoolsSupported
        return (self.has_pools,)

    def _cudaPointerGetAttributes(self, _address: int):
        return (SimpleNamespace(device=self.device_of_memory),)

    def _cudaHostAlloc(self, size: int, _flags: int):
        return self._block(size)

    def _cudaFree(self, address: int):
        if address:
            del self.blocks[address]  # freed twice: KeyError
        return ()

    _cudaFreeHost = _cudaFree
    _cudaStreamCreateWithFlags = _cudaEventCreate = _handle

    def launch_or_capture(self, work) -> None:
        """What a kernel does on a stream."""
        if self.here.captured is None:
            work()
        else:
            self.here.captured.append(work)

    def cudaStreamBeginCapture(self, stream, mode):
        self.calls.append(("cudaStreamBeginCapture", stream, mode))
        if int(stream) in (0, 1):
            return (ERRORS.cudaErrorStreamCaptureUnsupported,)
        self.here.captured, self.here.is_spoiled = [], False
        return (ERRORS.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        self.calls.append(("cudaStreamEndCapture", stream))
        captured, self.here.captured = self.here.captured, None
        if self.here.is_spoiled:
            return ERRORS.cudaErrorStreamCaptureInvalidated, None
        (graph,) = self._handle()
        self.graphs[int(graph)] = captured
        return ERRORS.cudaSuccess, graph

    def _cudaGraphInstantiate(self, graph, _flags: int):
        (ready,) = self._handle()
        self.graphs[int(ready)] = self.graphs[int(graph)]
        return (ready,)

    def _cudaGraphLaunch(self, graph, _stream):
        for work in self.graphs[int(graph)]:
            work()
        return ()

    def _cudaGetDevice(self):
        return (self.current,)

    def _cudaSetDevice(self, device: int):
        self.here.current = device
        return ()

    def _cudaMemGetInfo(self):
        return (self.total - self.used(), self.total)

    def _cudaEventElapsedTime(self, *_: object):
        return (2.5,)

    def _cudaMemcpyAsync(self, target: int, source: int, count: int, _kind, _stream):
        ctypes.memmove(target, source, count)
        return ()


class _OutOfMemory(Exception):  # noqa: N818
    pass


def parameters(name: str) -> list[str]:
    """Names of the parameters of a function of cuda-bindings, from its docstring."""
    text = getattr(real, name).__doc__.split("\n")[0]
    listed = text[text.index("(") + 1 : text.rindex(")")]
    return [part.split(":")[0].split()[-1] for part in listed.split(",") if part.strip()]


def results(name: str) -> int:
    return {"cudaMemGetInfo": 2}.get(name, 1)


class FakePyCuda:
    """`pycuda.driver`, as far as its documentation goes."""

    class Error(Exception):
        pass

    class MemoryError(Error, MemoryError):  # type: ignore[misc]  # noqa: A001
        pass

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.pushed, self.full = 0, False
        self.mem_get_info = self._checked("mem_get_info", lambda: (10, 20))
        self.mem_alloc = self._checked("mem_alloc", self._mem_alloc)
        self.pagelocked_empty = self._checked("pagelocked_empty", np.empty)
        self.memcpy_htod_async = self._checked("memcpy_htod_async", self._copy)
        self.memcpy_dtoh_async = self._checked("memcpy_dtoh_async", self._copy)
        self.Stream = self._checked("Stream", self._stream)
        self.Event = self._checked("Event", self._event)

    def init(self) -> None:
        self.calls.append("init")

    def Device(self, number: int):
        if number > 0:
            raise self.Error("cuDeviceGet failed: invalid device ordinal")
        context = SimpleNamespace(push=lambda: self._push(1), pop=lambda: self._push(-1))
        context.synchronize = self._checked("synchronize", lambda: None)
        return SimpleNamespace(retain_primary_context=lambda: context)

    def _push(self, by: int) -> None:
        self.pushed += by

    def _checked(self, name: str, work):
        def call(*arguments: object):
            assert self.pushed == 1, f"{name} outside the primary context"
            self.calls.append((name, *arguments))
            return work(*arguments)

        return call

    def _mem_alloc(self, size: int):
        if self.full:
            raise self.MemoryError("cuMemAlloc failed: out of memory")

        class Allocation(int):
            free = staticmethod(self._checked("free", lambda: None))

        return Allocation(4096)

    def _copy(self, *_: object) -> None: ...

    def _stream(self, _flags: int):
        wait = self._checked("wait_for_event", lambda event: None)
        done = self._checked("stream.synchronize", lambda: None)
        return SimpleNamespace(handle=77, synchronize=done, wait_for_event=wait)

    def _event(self):
        return SimpleNamespace(
            record=self._checked("record", lambda stream: None),
            synchronize=self._checked("event.synchronize", lambda: None),
            time_since=self._checked("time_since", lambda start: 1.5),
        )
