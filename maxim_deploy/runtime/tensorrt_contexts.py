"""Execution contexts: one per shape in use, of which a few are kept, with their CUDA graphs.

A CUDA graph holds the addresses and the shape that it was captured with, and refers to its context.
TensorRT therefore asks for one context per graph; without memory of its own a context is small.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maxim_deploy.errors import BackendError
from maxim_deploy.runtime.cuda import Cuda, Graph, Stream
from maxim_deploy.runtime.tensorrt_engines import SharedEngine

logger = logging.getLogger(__name__)

KEPT = 4
"""Shapes whose context and graph are kept; the least recently used goes first."""

Key = tuple[int, tuple[int, ...]]
"""Index of the profile, and dimensions of the input."""


@dataclass(frozen=True)
class Addresses:
    """Device addresses that a run reads and writes.

    Attributes:
        memory: of the pool.
        size: of the pool, in bytes.
        image: of the input.
        restored: of the output.
    """

    memory: int
    size: int
    image: int
    restored: int


class Context:
    """A `trt.IExecutionContext` with a shape, and its CUDA graph.

    Args:
        shared: the engine.
        cuda: to capture with.
        stream: in which it runs.
        capture_stream: in which CUDA graphs are captured, not the default one; None for no graphs.
    """

    def __init__(
        self, shared: SharedEngine, cuda: Cuda, stream: Stream, capture_stream: Stream | None
    ) -> None:
        self._shared, self._cuda = shared, cuda
        self._stream, self._capture_stream = stream, capture_stream
        self._context = shared.create_context()
        self._graph: Graph | None = None
        self._addresses: Addresses | None = None
        self._captures = False
        self.size = 0

    def set_shape(self, key: Key) -> None:
        """Make it one for another shape; `size` is then what it needs of the pool."""
        profile, dims = key
        self._forget()
        self._captures = self._capture_stream is not None
        if not self._context.set_optimization_profile_async(profile, self._stream.handle):
            raise self._shared.error(f"profile {profile} is refused")
        if not self._context.set_input_shape("image", dims):
            raise self._shared.error(f"shape {dims} is refused by profile {profile}")
        self.size = int(self._context.update_device_memory_size_for_shapes())
        self._shared.sizes[key] = self.size

    def report_to(self, profiler: Any) -> None:
        """Let a `trt.IProfiler` hear the time of every layer during each run; no CUDA graphs."""
        self._context.profiler = profiler
        self._context.enqueue_emits_profile = True

    def enqueue(self, addresses: Addresses) -> None:
        """Enqueue one run.

        The first run with these addresses is enqueued as it is, which TensorRT needs before a
        capture; the second captures a graph, and from then on the graph is launched.
        """
        if addresses != self._addresses:
            self._bind(addresses)
        elif self._captures and self._graph is None:
            self._capture()
        if self._graph:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._execute(self._stream)

    def close(self) -> None:
        """Give the graph and the context back."""
        self._forget()
        del self._context

    def _bind(self, addresses: Addresses) -> None:
        self._forget()
        self._context.set_device_memory(addresses.memory, addresses.size)
        for name, address in (("image", addresses.image), ("restored", addresses.restored)):
            if not self._context.set_tensor_address(name, address):
                raise self._shared.error(f"address {address:#x} of {name!r} is refused")
        self._addresses = addresses

    def _execute(self, stream: Stream) -> None:
        if not self._context.execute_async_v3(stream.handle):
            raise self._shared.error("the engine failed")

    def _capture(self) -> None:
        assert self._capture_stream is not None
        stream = self._capture_stream
        try:
            self._graph = self._cuda.capture(stream, lambda: self._execute(stream))
        except (BackendError, MemoryError) as error:
            # Whatever forbids a capture forbids the next one: not before the shape changes.
            self._captures = False
            logger.warning("running without a CUDA graph: %s", error)

    def _forget(self) -> None:
        """Drop the graph, which is of other addresses or another shape, when it has run."""
        # A graph or a context that is still running must not lose what it runs with.
        if self._addresses:
            self._cuda.synchronize(self._stream)
        if self._graph:
            self._graph.close()
        self._graph = self._addresses = None


class Contexts:
    """The contexts of the shapes used last. Not thread-safe."""

    def __init__(self, make: Callable[[], Context], kept: int = KEPT) -> None:
        self._make, self._kept = make, kept
        self._by_key: OrderedDict[Key, Context] = OrderedDict()

    def get(self, key: Key) -> tuple[Context, bool]:
        """(the context of a shape, whether the shape is new to it).

        The least recently used context is given the shape if there are enough: making one is dear.
        """
        if key in self._by_key:
            self._by_key.move_to_end(key)
            return self._by_key[key], False
        # Making a context takes longer than giving one another shape.
        full = len(self._by_key) >= self._kept
        context = self._by_key.popitem(last=False)[1] if full else self._make()
        context.set_shape(key)
        self._by_key[key] = context
        return context, True

    def close(self) -> None:
        """Give all back."""
        while self._by_key:
            self._by_key.popitem()[1].close()
