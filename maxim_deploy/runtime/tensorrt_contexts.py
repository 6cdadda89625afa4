"""Execution contexts: one per shape in use, of which a few are kept, with their CUDA graphs.

A CUDA graph holds the addresses and the shape that it was captured with, and refers to its context.
TensorRT therefore asks for one context per shape; without memory of its own a context is small.
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
"""Is told why a CUDA graph could not be captured."""

KEPT = 4
"""Shapes whose context and graph are kept; the least recently used goes first."""

KEPT_GRAPHS = 4
"""Addresses whose graphs are kept for each shape, for callers that take turns between buffers."""

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
    """A `trt.IExecutionContext` with a shape, and its CUDA graphs.

    Args:
        shared: the engine.
        cuda: to capture with.
        stream: in which it runs, and in which CUDA graphs are captured.
        on_failure: called if that is impossible; it then runs without. None for no graphs.

    Attributes:
        size: bytes of the pool that its shape needs.
        runs: of its shape, so far.
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
        """Make it one for another shape; `size` is then what it needs of the pool."""
        profile, dims = key
        self._forget()
        self._captures, self.runs = self._on_failure is not None, 0
        if not self._context.set_optimization_profile_async(profile, self._stream.handle):
            raise self._shared.error(f"profile {profile} is refused")
        if not self._context.set_input_shape("image", dims):
            raise self._shared.error(f"shape {dims} is refused by profile {profile}")
        # It is written to memory of the input's size, and would go beyond.
        if (restored := tuple(self._context.get_tensor_shape("restored"))) != tuple(dims):
            raise BackendError(
                f"the engine makes {restored} of an input of {tuple(dims)}; expected the same "
                "shape: build the engine again"
            )
        self.size = int(self._context.update_device_memory_size_for_shapes())
        # 0 is an error, unless the engine needs no memory at all.
        if self.size <= 0 and self._shared.bytes_of_profile(profile) > 0:
            raise self._shared.error(f"no memory size is known for shape {dims}")
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

    def close(self) -> None:
        """Give the graphs and the context back, when what is enqueued has run."""
        self._cuda.synchronize(self._stream)
        self._forget()
        del self._context

    def _bind(self, addresses: Addresses) -> None:
        """Let the next run that is enqueued use these addresses."""
        block = addresses.memory, addresses.size
        if block != self._block:
            # The pool has another block, so that no graph may run in the former.
            self._forget()
            self._context.set_device_memory(*block)
            self._block = block
        for name, address in (("image", addresses.image), ("restored", addresses.restored)):
            if not self._context.set_tensor_address(name, address):
                raise self._shared.error(f"address {address:#x} of {name!r} is refused")

    def _execute(self) -> None:
        if self._enqueued():
            return
        # A second try hears the reason. Listening to every run would take memory for ever: the
        # bindings keep a reference each time a recorder is set.
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
            # Whatever forbids a capture forbids the next one: not before the shape changes.
            self._captures = False
            self._on_failure(error)
            return None

    def _enqueue_to_capture(self) -> None:
        # A second try would be captured behind what the first one left.
        if not self._enqueued():
            raise BackendError("the engine cannot be captured")

    def _remember(self, addresses: Addresses, graph: Graph | None) -> None:
        self._graphs[addresses] = graph
        self._graphs.move_to_end(addresses)
        if len(self._graphs) > KEPT_GRAPHS:
            self._drop(self._graphs.popitem(last=False)[1])

    def _forget(self) -> None:
        """Drop the graphs, which are of another shape or another block of memory."""
        for graph in self._graphs.values():
            self._drop(graph)
        self._graphs.clear()
        self._block = None

    def _drop(self, graph: Graph | None) -> None:
        # Only a graph must be waited for: a run that was enqueued as it is has taken what it needs.
        if graph:
            self._cuda.synchronize(self._stream)
            graph.close()


class Contexts:
    """The contexts of the shapes used last. Not thread-safe."""

    def __init__(self, make: Callable[[], Context], kept: int = KEPT) -> None:
        self._make, self._kept = make, kept
        self._by_key: OrderedDict[Key, Context] = OrderedDict()

    def get(self, key: Key) -> Context:
        """The context of a shape.

        The least recently used context is given the shape if there are enough: making one is dear.
        """
        if key in self._by_key:
            self._by_key.move_to_end(key)
            return self._by_key[key]
        # Making a context takes longer than giving one another shape.
        full = len(self._by_key) >= self._kept
        context = self._by_key.popitem(last=False)[1] if full else self._make()
        try:
            context.set_shape(key)
        except BaseException:
            context.close()
            raise
        self._by_key[key] = context
        return context

    def close(self) -> None:
        """Give all back."""
        while self._by_key:
            self._by_key.popitem()[1].close()
