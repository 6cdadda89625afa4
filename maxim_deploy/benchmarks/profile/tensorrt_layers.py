"""TensorRT's layer profiler, for both of its libraries.

Written against the documented API, and tested at its surface: "What ran where" in README.md.

After each run, TensorRT reports milliseconds of GPU time for every layer to the `IProfiler` of the
context. It waits between layers, so their sum exceeds the time of a run. Layers have the names that
the builder gave them after fusion. The list beside the engine has the ONNX nodes of each layer; if
the library listed none, the name itself contains them.
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
"""Milliseconds of one run by the name of the layer."""


def layer_times(
    shared: SharedEngine, cuda: Cuda, key: Key, image: NDArray[Any], runs: int
) -> list[LayerTimes]:
    """Run an engine with a profiler.

    Args:
        shared: the engine, in memory.
        cuda: the GPU that it is on.
        key: profile and dimensions to run with.
        image: input in the graph's form.
        runs: number of runs.

    Raises:
        OutOfMemoryError: there is not enough device memory.
        BackendError: the engine failed, or the profiler received no layer.
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
            # All contexts share the pool's memory, which belongs to this one during its turn.
            with shared.pool.turn(stream):
                memory = shared.pool.reserve(context.size, stream)
                where = Addresses(memory, shared.pool.size, source.address, target.address)
                for _ in range(runs):
                    context.enqueue(where)
                    # The profiler has received a whole run once the stream is empty.
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
    """A `trt.IProfiler` that keeps a `LayerTimes` for each run in `runs`."""

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
    """The times of every layer over all runs, with the place and kind of its fused nodes.

    Args:
        runs: times by layer of each run. A layer that a run lacks counts 0 in it.
        layers: the list beside the engine; may be empty.
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
