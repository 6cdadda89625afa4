"""TensorRT's layer profiler, for both of its libraries.

Written against the documented API, and tested at its surface: "What ran where" in README.md.

An `IProfiler` that is set on a context is told milliseconds of GPU time for every layer after each
run. Between layers the profiler waits, so that their sum is more than a run takes. Layers have the
names that the builder gave them after fusion; which ONNX nodes are in each is in the list beside
the engine, or, where the library did not list them, in the name itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.benchmarks.profile.profile import NodeTimes
from maxim_deploy.engines.layers import Layer
from maxim_deploy.engines.sources import sources_of_layers
from maxim_deploy.errors import BackendError
from maxim_deploy.runtime.cuda import Cuda
from maxim_deploy.runtime.tensorrt_contexts import Addresses, Context, Key
from maxim_deploy.runtime.tensorrt_engines import SharedEngine

LayerTimes = dict[str, float]
"""Milliseconds by the name of the layer, of one run."""


def layer_times(
    shared: SharedEngine, cuda: Cuda, key: Key, image: NDArray[Any], runs: int
) -> list[LayerTimes]:
    """Run an engine and listen.

    Args:
        shared: the engine, in memory.
        cuda: the GPU that it is on.
        key: profile and dimensions to run with.
        image: input in the graph's form.
        runs: how many.

    Raises:
        OutOfMemoryError: there is not enough device memory.
        BackendError: the engine failed, or the profiler heard nothing.
    """
    profiler = layer_profiler(shared.trt)
    with cuda.active():
        stream = cuda.stream()
        context = Context(shared, cuda, stream, None)
        try:
            context.set_shape(key)
            context.report_to(profiler)
            source, target = cuda.allocate(image.nbytes), cuda.allocate(image.nbytes)
            cuda.upload(source.address, np.ascontiguousarray(image), stream)
            # The pool's memory is shared by all contexts: it is ours while the turn lasts.
            with shared.pool.turn(stream):
                memory = shared.pool.reserve(context.size, stream)
                where = Addresses(memory, shared.pool.size, source.address, target.address)
                for _ in range(runs):
                    context.enqueue(where)
                    # The profiler has heard a run once the stream is empty.
                    cuda.synchronize(stream)
                    profiler.next_run()
        finally:
            cuda.synchronize(stream)
            context.close()
            stream.close()
    times: list[LayerTimes] = profiler.runs
    if not all(times):
        raise BackendError(f"{shared.trt.__name__} reported no layer to its profiler")
    return times


def layer_profiler(trt: Any) -> Any:
    """A `trt.IProfiler` that keeps what it hears in `runs`, a `LayerTimes` for each."""

    class CollectingProfiler(trt.IProfiler):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.runs: list[LayerTimes] = []
            self._current: LayerTimes = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self._current[layer_name] += ms

        def next_run(self) -> None:
            self.runs.append(dict(self._current))
            self._current.clear()

    return CollectingProfiler()


def nodes_of_layers(runs: Sequence[LayerTimes], layers: Iterable[Layer]) -> list[NodeTimes]:
    """The times of every layer over all runs, with the place and kind of what is fused in it.

    Args:
        runs: by layer; one that a run does not have took no time in it.
        layers: as listed beside the engine; may be empty.
    """
    listed = list(layers)
    # An engine without names reports the decimal index of a layer.
    by_name = {str(number): number for number in range(len(listed))}
    by_name |= {layer.name: number for number, layer in enumerate(listed)}
    reported = list(dict.fromkeys(name for run in runs for name in run))
    unlisted = [name for name in reported if name not in by_name]
    by_name |= {name: len(listed) + k for k, name in enumerate(unlisted)}
    sources = sources_of_layers([*listed, *(Layer(name, "", (), ()) for name in unlisted)])
    found = ((name, sources[by_name[name]]) for name in reported)
    return [
        NodeTimes(source.place, source.kind, [run.get(name, 0.0) for run in runs])
        for name, source in found
    ]
