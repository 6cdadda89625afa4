"""Execution contexts with CUDA graphs: one per shape in use. A few are kept.

A CUDA graph contains the addresses and shape of its capture, and refers to its context. So TensorRT
needs one context per shape. A context without its own memory is small.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maxim_deploy.errors import BackendError
from maxim_deploy.runtime.cuda import Cuda, Graph, Stream
from maxim_deploy.runtime.tensorrt_engines import SharedEngine

OnFailure = Callable[[Exception], None]
"""Called with the reason if a CUDA graph could not be captured."""

KEPT = 4
"""Shapes whose context and graph are kept. The least recently used is dropped first."""

KEPT_GRAPHS = 4
"""Pairs of addresses whose graphs are kept per shape, for callers that alternate between
buffers."""

Key = tuple[int, tuple[int, ...]]
"""Index of the profile and dimensions of the input."""


@dataclass(frozen=True)
class Addresses:
    """Device addresses of a run.

    Attributes:
        memory: address of the pool.
        size: size of the pool in bytes.
        image: address of the input.
        restored: address of the output.
    """

    memory: int
    size: int
    image: int
    restored: int


class Context:
    """A `trt.IExecutionContext` with a shape and its CUDA graphs.

    Args:
        shared: the engine.
        cuda: CUDA of the GPU.
        stream: stream for runs and captures.
        on_failure: called if a capture is impossible; it then runs without graphs. None to use no
            graphs.

    Attributes:
        size: bytes of the pool for its shape.
        runs: number of runs with its shape.
    """

    def __init__(
        self, shared: SharedEngine, cuda: Cuda, stream: Stream, on_failure: OnFailure | None
    ) -> None:
        self._shared, self._cuda = shared, cuda
        self._stream, self._on_failure = stream, on_failure
        self._context = shared.create_context()
        self._graphs: OrderedDict[Addresses, Graph | None] = OrderedDict()
        self._block: tuple[int, int] | None = None
        self._captures = False
        self.size = self.runs = 0

    def set_shape(self, key: Key) -> None:
        """Set another shape, and set `size` to the memory that it needs."""
        profile, dims = key
        self._forget()
        self._captures, self.runs = self._on_failure is not None, 0
        if not self._context.set_optimization_profile_async(profile, self._stream.handle):
            raise self._shared.error(f"profile {profile} is refused")
        if not self._context.set_input_shape("image", dims):
            raise self._shared.error(f"shape {dims} is refused by profile {profile}")
        # It would exceed the output's memory, which has the input's size.
        if (restored := tuple(self._context.get_tensor_shape("restored"))) != tuple(dims):
            raise BackendError(
                f"the engine returns {restored} for an input of {tuple(dims)}; expected the same "
                "shape: build the engine again"
            )
        self.size = int(self._context.update_device_memory_size_for_shapes())
        # 0 is an error, unless the engine needs no memory.
        if self.size <= 0 and self._shared.bytes_of_profile(profile) > 0:
            raise self._shared.error(f"no memory size is known for shape {dims}")
        self._shared.sizes[key] = self.size

    def report_to(self, profiler: Any) -> None:
        """Report the time of every layer of each run to a `trt.IProfiler`, without CUDA graphs."""
        self._context.profiler = profiler
        self._context.enqueue_emits_profile = True

    def enqueue(self, addresses: Addresses) -> None:
        """Enqueue one run.

        The first run with these addresses is enqueued directly, as TensorRT requires before a
        capture. The second captures a graph, and later runs launch it.
        """
        graph = self._graphs.get(addresses)
        if graph is None:
            self._bind(addresses)
            if self._captures and addresses in self._graphs:
                graph = self._captured()
        if graph:
            self._cuda.launch(graph, self._stream)
        else:
            self._execute()
        self._remember(addresses, graph)
        self.runs += 1

    def release(self) -> None:
        """Drop the graphs, after all enqueued work."""
        self._cuda.synchronize(self._stream)
        self._forget()

    def close(self) -> None:
        """Release graphs and context, after all enqueued work."""
        self.release()
        del self._context

    def _bind(self, addresses: Addresses) -> None:
        """Set the addresses of the next enqueued run."""
        block = addresses.memory, addresses.size
        if block != self._block:
            # The pool has another block, so graphs of the old block must not run.
            self._forget()
            self._context.set_device_memory(*block)
            self._block = block
        for name, address in (("image", addresses.image), ("restored", addresses.restored)):
            if not self._context.set_tensor_address(name, address):
                raise self._shared.error(f"address {address:#x} of {name!r} is refused")

    def _execute(self) -> None:
        if self._enqueued():
            return
        # A second attempt records the reason. Recording every run would leak memory: the bindings
        # keep a reference each time a recorder is set.
        with self._shared.listening(self._context):
            if not self._enqueued():
                raise self._shared.error("the engine failed")

    def _enqueued(self) -> bool:
        return bool(self._context.execute_async_v3(self._stream.handle))

    def _captured(self) -> Graph | None:
        assert self._on_failure is not None
        try:
            return self._cuda.capture(self._stream, self._enqueue_to_capture)
        except (BackendError, MemoryError) as error:
            # The cause would also prevent the next capture, so wait for another shape.
            self._captures = False
            self._on_failure(error)
            return None

    def _enqueue_to_capture(self) -> None:
        # A second attempt would be captured after remains of the first.
        if not self._enqueued():
            raise BackendError("the engine cannot be captured")

    def _remember(self, addresses: Addresses, graph: Graph | None) -> None:
        self._graphs[addresses] = graph
        self._graphs.move_to_end(addresses)
        if len(self._graphs) > KEPT_GRAPHS:
            self._drop(self._graphs.popitem(last=False)[1])

    def _forget(self) -> None:
        """Drop graphs of another shape or another block of memory."""
        for graph in self._graphs.values():
            self._drop(graph)
        self._graphs.clear()
        self._block = None

    def _drop(self, graph: Graph | None) -> None:
        # Only graphs need a wait: directly enqueued runs have copied their arguments.
        if graph:
            self._cuda.synchronize(self._stream)
            graph.close()


class Contexts:
    """The contexts of the most recent shapes. Not thread-safe."""

    def __init__(self, make: Callable[[], Context], kept: int = KEPT) -> None:
        self._make, self._kept = make, kept
        self._by_key: OrderedDict[Key, Context] = OrderedDict()

    def get(self, key: Key) -> Context:
        """The context of a shape.

        If there are enough contexts, the least recently used one gets the shape.
        """
        if key in self._by_key:
            self._by_key.move_to_end(key)
            return self._by_key[key]
        # Making a context takes longer than changing a shape.
        full = len(self._by_key) >= self._kept
        context = self._by_key.popitem(last=False)[1] if full else self._make()
        try:
            context.set_shape(key)
        except BaseException:
            context.close()
            raise
        self._by_key[key] = context
        return context

    def release(self) -> None:
        """Drop all CUDA graphs."""
        for context in self._by_key.values():
            context.release()

    def close(self) -> None:
        """Release all contexts."""
        while self._by_key:
            self._by_key.popitem()[1].close()
