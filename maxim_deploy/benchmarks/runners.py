"""What a worker process runs, and in which brackets: a backend on a bundle, a graph, or PyTorch.

All runners see the same pictures, noise from a fixed seed, and give the network's result in the
same form, so that results can be compared. On a GPU the network alone runs from device memory to
device memory; GPU time is between two events in the stream that it runs in, which ONNX Runtime does
not let us choose, so it has none.

GPU: not yet run on hardware.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maxim_deploy import runtime
from maxim_deploy.benchmarks.subjects import TORCH
from maxim_deploy.benchmarks.timing import Timed
from maxim_deploy.imaging import Padding, to_unit
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.cuda import Cuda, DeviceArray, open_cuda
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu
from maxim_deploy.runtime.selection import Request, open_backend
from maxim_deploy.spec.manifest import Bundle
from maxim_deploy.spec.precision import FULL

SEED = 0
DEVICE = 0
"""Index of the GPU, where there is one."""

_ENGINES = ("tensorrt", "tensorrt-rtx")

Bracket = Callable[[], Timed]


@dataclass(frozen=True)
class Workload:
    """What a worker is to load; it travels as JSON.

    Attributes:
        runner: a backend, "torch" or "torch-compile".
        file: a bundle for a backend, or a graph of the tensor form; literal weights for PyTorch.
        size: height and width of the pictures.
        precision: inside.
        batch: pictures per call.
        threads: CPU threads; None for one per core.
        on_gpu: whether it runs on the GPU.
    """

    runner: str
    file: str
    size: tuple[int, int]
    precision: str = FULL
    batch: int = 1
    threads: int | None = None
    on_gpu: bool = False

    @property
    def padding(self) -> Padding:
        """From the pictures to what the network sees, and back."""
        return Padding(*self.size)

    def pictures(self) -> list[NDArray[np.uint8]]:
        """`batch` pictures `[H, W, 3]`, the same in every process."""
        random = np.random.default_rng(SEED)
        shape = (self.batch, *self.size, 3)
        return list(random.integers(0, 256, shape, np.uint8))

    def inputs(self, io: str) -> NDArray[Any]:
        """The pictures as a batch in the form of a graph, padded if that is the tensor form."""
        if io == "image":
            return np.stack(self.pictures())
        padded = [self.padding.apply(to_unit(picture)) for picture in self.pictures()]
        return np.ascontiguousarray(np.stack(padded).transpose(0, 3, 1, 2))

    def unpadded(self, restored: NDArray[Any], io: str) -> NDArray[np.float32]:
        """A result of the network as float32 `[N, H, W, 3]`."""
        if io == "image":
            return to_unit(restored)
        own = restored.astype(np.float32).transpose(0, 2, 3, 1)
        return np.stack([self.padding.undo(one) for one in own])


class Runner(Protocol):
    """Something that is loaded and can be timed.

    Attributes:
        library: that runs, with its version.
        device: "cpu", or "cuda:0" and the name of the GPU.
        io: form of the graph or engine; None for PyTorch.
        brackets: what to time, by name; see `maxim_deploy.benchmarks.records`.
        cuda: the GPU, to ask for its memory; None on a CPU.
    """

    library: str
    device: str
    io: str | None
    brackets: dict[str, Bracket]
    cuda: Cuda | None

    def result(self) -> NDArray[np.float32]:
        """What the network made of the pictures in its last run: `[N, H, W, 3]`."""
        ...

    def restorer(self) -> runtime.Restorer:
        """For tests under load.

        Raises:
            KeyError: this is no backend on a bundle.
        """
        ...


def runner_of(job: Workload) -> Runner:
    """Load what a job names.

    Raises:
        MaximDeployError: it cannot be loaded or does not run here.
    """
    if job.runner in TORCH:
        from maxim_deploy.benchmarks.torch_runner import TorchRunner

        return TorchRunner(job)
    opened = _open(job)
    if opened.cuda is None:
        return HostRunner(job, opened)
    return DeviceRunner(job, opened)


@dataclass
class Opened:
    """A backend, and what else is needed to time it.

    Attributes:
        backend: to run.
        request: that opened it; None for a graph without a bundle.
        cuda: the GPU; None on a CPU.
        stream: handle of the stream that the backend works in; None if it has streams of its own.
    """

    backend: Backend
    request: Request | None = None
    cuda: Cuda | None = None
    stream: Any = field(default=None)


def _open(job: Workload) -> Opened:
    cuda = open_cuda(device=DEVICE) if job.on_gpu else None
    if Path(job.file).suffix == ".onnx":
        return Opened(_graph_backend(job), cuda=cuda)
    request = Request(Bundle.open(job.file), job.precision, DEVICE, job.threads)
    if job.runner not in _ENGINES or cuda is None:
        return Opened(open_backend(request, job.runner)[0], request, cuda)
    stream = cuda.stream()
    in_stream = Request(request.bundle, job.precision, DEVICE, job.threads, stream.handle)
    return Opened(open_backend(in_stream, job.runner)[0], request, cuda, stream)


def _graph_backend(job: Workload) -> Backend:
    """A graph of the tensor form that is in no bundle."""
    if job.runner == OnnxRuntimeCpu.name:
        return OnnxRuntimeCpu(Path(job.file), job.threads)
    from maxim_deploy.runtime.onnxruntime_cuda import OnnxRuntimeCuda

    return OnnxRuntimeCuda(Path(job.file), job.precision, "tensor", DEVICE, job.threads)


def by_wall(run: Callable[[], object]) -> Bracket:
    """A bracket of wall time around a call that returns when its work is done."""

    def bracket() -> Timed:
        start = time.perf_counter()
        run()
        return Timed(1e3 * (time.perf_counter() - start))

    return bracket


class _BackendRunner:
    """What both runners of backends share: the brackets around a whole call.

    The restorer is loaded when it is first used, after memory was measured: it has a session of
    its own.
    """

    def __init__(self, job: Workload, opened: Opened) -> None:
        backend = opened.backend
        self._job, self._opened, self._backend = job, opened, backend
        self.library, self.device = backend.library, backend.device
        self.io: str | None = backend.io or "tensor"
        self.cuda = opened.cuda
        self._inputs = job.inputs(backend.io)
        self._pictures = job.pictures()
        self.brackets: dict[str, Bracket] = {}
        if opened.request is not None:
            self.brackets["image"] = by_wall(lambda: self.restorer().batch(self._pictures))

    def restorer(self) -> runtime.Restorer:
        """See `Runner`."""
        if self._opened.request is None:
            raise KeyError("restorer")
        return self._restorer

    @cached_property
    def _restorer(self) -> runtime.Restorer:
        job = self._job
        return runtime.load(
            job.file, backend=job.runner, precision=job.precision, threads=job.threads
        )


class HostRunner(_BackendRunner):
    """A backend on the CPU: its network runs from host memory to host memory."""

    def __init__(self, job: Workload, opened: Opened) -> None:
        super().__init__(job, opened)
        self._restored = self._inputs
        self.brackets["network"] = by_wall(self._run)

    def _run(self) -> None:
        self._restored = self._backend.run(self._inputs)

    def result(self) -> NDArray[np.float32]:
        """See `Runner`."""
        return self._job.unpadded(self._restored, self._backend.io)


class DeviceRunner(_BackendRunner):
    """A backend on a GPU; not yet run on hardware."""

    def __init__(self, job: Workload, opened: Opened) -> None:
        super().__init__(job, opened)
        assert opened.cuda is not None
        self._cuda = opened.cuda
        self._copies = opened.stream or self._cuda.stream()
        self._source, self._target = self._array(), self._array()
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
        """One in streams of its own, as a `Restorer` has it; the engine is the same."""
        if self._opened.stream is None:
            return self._backend
        assert self._opened.request is not None
        return open_backend(self._opened.request, self._job.runner)[0]

    def _network(self) -> Timed:
        backend: Any = self._backend
        if self._opened.stream is None:
            return by_wall(lambda: self._keep(backend.run_on_device(self._source)))()
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
        return self._job.unpadded(host, self._backend.io)
