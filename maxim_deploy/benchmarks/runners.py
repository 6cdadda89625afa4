"""Runs a backend on a bundle, a graph, or PyTorch in a worker process, in timed brackets.

On a GPU the network alone runs from device memory to device memory. GPU time lies between two
events in the stream of the run. ONNX Runtime has no GPU time, because its stream cannot be chosen.

GPU: "What ran where" in README.md, step `bound`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._folders import read_whole
from maxim_deploy.benchmarks.subjects import TORCH
from maxim_deploy.benchmarks.timing import Timed
from maxim_deploy.benchmarks.workload import DEVICE, Bracket, Runner, Workload, by_wall
from maxim_deploy.runtime import Restorer, load
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.cuda import Cuda, DeviceArray, open_cuda
from maxim_deploy.runtime.names import PrecisionName
from maxim_deploy.runtime.registry import backend_named
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.selection import open_backend
from maxim_deploy.spec.bundle import Bundle

COMPILED_FIRST = {"specialization": "eager"}
"""For TensorRT for RTX, whose slower fallback would be timed during compilation in the background.

The compiled kernels are kept beside the engine, so the `Restorer` of a later bracket uses them.
"""


def runner_of(workload: Workload) -> Runner:
    """Load the runner of a workload.

    Raises:
        MaximDeployError: it cannot be loaded or does not run here.
    """
    if workload.runner in TORCH:
        from maxim_deploy.benchmarks.torch_runner import TorchRunner

        return TorchRunner(workload)
    opened = _open(workload)
    if opened.cuda is None:
        return HostRunner(workload, opened)
    return DeviceRunner(workload, opened)


@dataclass
class Opened:
    """An open backend with the objects for timing it.

    Attributes:
        backend: the backend.
        request: the request that opened it; None for a graph without a bundle.
        cuda: the GPU; None on a CPU.
        stream: stream that the backend works in; None if it has its own streams.
    """

    backend: Backend
    request: Request | None = None
    cuda: Cuda | None = None
    stream: Any = field(default=None)


def _open(workload: Workload) -> Opened:
    cuda = open_cuda(device=DEVICE) if workload.on_gpu else None
    if Path(workload.file).suffix == ".onnx":
        return Opened(_graph_backend(workload), cuda=cuda)
    return read_whole(
        Path(workload.file),
        lambda: _of_bundle(workload, Bundle.open(workload.file), cuda),
        lambda opened: opened.backend.close(),
    )


def _of_bundle(workload: Workload, bundle: Bundle, cuda: Cuda | None) -> Opened:
    request = Request(
        bundle,
        workload.precision,
        DEVICE,
        workload.threads,
        runtime=COMPILED_FIRST,
    )
    # Only an engine works in a given stream, where events can bracket its GPU time.
    if backend_named(workload.runner).runs != "engines" or cuda is None:
        return Opened(open_backend(request, workload.runner)[0], request, cuda)
    stream = cuda.stream()
    in_stream = replace(request, stream=stream.handle)
    return Opened(open_backend(in_stream, workload.runner)[0], request, cuda, stream)


def _graph_backend(workload: Workload) -> Backend:
    """A backend on a graph of the tensor form outside a bundle."""
    where = Path(workload.file), workload.precision, DEVICE, workload.threads
    backend: Backend = backend_named(workload.runner).call("graph_opener", *where)
    return backend


class _BackendRunner:
    """The common part of both runners of backends, with the bracket around a whole call.

    The restorer is loaded at its first use, after memory was measured, because it opens its own
    session.
    """

    def __init__(self, workload: Workload, opened: Opened) -> None:
        backend = opened.backend
        self._workload, self._opened, self._backend = workload, opened, backend
        self.library, self.device = backend.library, backend.device
        self.io: str | None = backend.io or "tensor"
        self.cuda = opened.cuda
        # The inputs are made once, so only the "image" bracket includes padding and stacking.
        self._inputs = workload.inputs(backend.io)
        self._pictures = workload.pictures()
        self.brackets: dict[str, Bracket] = {}
        if opened.request is not None:
            self.brackets["image"] = by_wall(lambda: self.restorer().batch(self._pictures))

    def restorer(self) -> Restorer:
        """See `Runner`."""
        if self._opened.request is None:
            raise KeyError("restorer")
        return self._restorer

    @cached_property
    def _restorer(self) -> Restorer:
        workload = self._workload
        return load(
            workload.file,
            backend=workload.runner,
            precision=cast(PrecisionName, workload.precision),
            threads=workload.threads,
            # Otherwise the choice of an earlier measurement would make records differ.
            lanes="auto" if backend_named(workload.runner).is_on_gpu else 1,
        )


class HostRunner(_BackendRunner):
    """A backend on the CPU: its network runs from host memory to host memory."""

    def __init__(self, workload: Workload, opened: Opened) -> None:
        super().__init__(workload, opened)
        self._restored = self._inputs
        self.brackets["network"] = by_wall(self._run)

    def _run(self) -> None:
        self._restored = self._backend.run(self._inputs)

    def result(self) -> NDArray[np.float32]:
        """See `Runner`."""
        return self._workload.unpadded(self._restored, self._backend.io)


class DeviceRunner(_BackendRunner):
    """A backend on a GPU: its network runs from device memory to device memory."""

    def __init__(self, workload: Workload, opened: Opened) -> None:
        super().__init__(workload, opened)
        assert opened.cuda is not None
        self._cuda = opened.cuda
        self._copies = opened.stream or self._cuda.stream()
        self._source, self._target = self._array(), self._array()
        # The copy is asynchronous, and the first run must not read a half-copied input.
        self._cuda.upload(self._source.address, self._inputs, self._copies)
        self._cuda.synchronize(self._copies)
        self._restored = self._target
        self._marks = self._cuda.event(), self._cuda.event()
        self.brackets["network"] = self._network
        if opened.request is not None:
            self.brackets["transfer"] = by_wall(lambda: self._whole.run(self._inputs))

    def _array(self) -> DeviceArray:
        memory = self._cuda.allocate(self._inputs.nbytes)
        return DeviceArray(memory.address, self._inputs.shape, self._inputs.dtype, None, memory)

    @cached_property
    def _whole(self) -> Backend:
        """The same engine with its own streams, as in a `Restorer`."""
        if self._opened.stream is None:
            return self._backend
        assert self._opened.request is not None
        return open_backend(self._opened.request, self._workload.runner)[0]

    def _network(self) -> Timed:
        backend = self._backend
        if self._opened.stream is None:
            return by_wall(lambda: self._keep(backend.run_on_device(self._source)))()
        # Launches return before the GPU is done. Wall time ends when the stream is empty, and the
        # events give the GPU's part of it.
        begin, end = self._marks
        start = time.perf_counter()
        self._cuda.record(begin, self._copies)
        self._keep(backend.run_on_device(self._source, self._target))
        self._cuda.record(end, self._copies)
        self._cuda.synchronize(self._copies)
        wall = 1e3 * (time.perf_counter() - start)
        return Timed(wall, self._cuda.elapsed_ms(begin, end))

    def _keep(self, restored: DeviceArray) -> None:
        self._restored = restored

    def result(self) -> NDArray[np.float32]:
        """See `Runner`."""
        host = np.empty_like(self._inputs)
        self._cuda.download(host, self._restored.address, self._copies)
        self._cuda.synchronize(self._copies)
        return self._workload.unpadded(host, self._backend.io)
