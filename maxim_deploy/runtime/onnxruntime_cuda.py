"""ONNX Runtime on an NVIDIA GPU.

Written against the documented API, and tested at its surface: "What ran where" in README.md.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from maxim_deploy._optional import installed_version, require
from maxim_deploy.errors import (
    BackendError,
    MissingDependencyError,
    UsageError,
)
from maxim_deploy.machine.gpu import find_gpu, no_gpu
from maxim_deploy.machine.onnxruntime import telemetry
from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.cuda import (
    Cuda,
    DeviceArray,
    array_on_gpu,
    device_array_from,
    open_cuda,
)
from maxim_deploy.runtime.onnxruntime_session import (
    CUDA,
    check_result,
    cuda_session,
    run_error,
    stoppable,
)
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.runtime.verdict import PIP_LINE, Verdict
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.precision import FULL, GPU_PRECISIONS, PRECISIONS
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.run_memory import typical_bytes_per_pixel


class OnnxRuntimeCuda(Backend):
    """A session on one ONNX graph.

    Args:
        graph_path: the ONNX file, its weights beside it.
        precision: inside the graph.
        io: form of the graph.
        device: index of the GPU.
        threads: CPU threads within one operator, of which there are few; None for one per core.
        architecture: of the network, to know its memory; None if nobody will ask.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: this ONNX Runtime has no CUDA, cannot use it here, cannot load the graph, or
            would run part of the network on the CPU.
    """

    name = "onnxruntime-cuda"
    uses_host_memory = False
    takes_turns = True
    batch_pixels = 4 * 1024 * 1024
    """Not measured: small images do not fill a GPU, and four megapixels do."""

    warmup_runs = 2
    """The second run of a shape keeps its memory; see `_run`."""

    def __init__(
        self,
        graph_path: Path,
        precision: str,
        io: str,
        device: int = 0,
        threads: int | None = None,
        architecture: Architecture | None = None,
    ) -> None:
        ort = self._ort = require("onnxruntime", "gpu")
        self.precision, self.io = precision, io
        self._index, self._architecture = device, architecture
        self._lock = threading.Lock()
        self._last_dims: tuple[int, ...] = ()
        self._session: Any = cuda_session(ort, graph_path, device, threads)
        gpu = find_gpu(device)
        self.device = f"cuda:{device} {gpu.name}" if gpu else f"cuda:{device}"
        self.library = f"onnxruntime-gpu {ort.__version__}"
        self._cuda = _cuda(device)

    def run(self, image: NDArray[Any], turn: Turn | None = None) -> NDArray[Any]:
        """Restore a batch in the graph's form, in host memory; the same shape and type comes back.

        Threads take turns: two runs at a time would take the memory of two.

        Raises:
            OutOfMemoryError: there is not enough device memory for this shape.
            BackendError: ONNX Runtime failed, or this is closed.
            BaseException: the reason of the turn's `stop`. What the GPU has been given it finishes.
        """
        with self._lock:
            session = self._open_session()
            try:
                binding = session.io_binding()
                on_device = self._ort.OrtValue.ortvalue_from_numpy(image, "cuda", self._index)
                binding.bind_ortvalue_input("image", on_device)
                restored: NDArray[Any] = self._run(binding, image.shape, turn).numpy()
            except Exception as error:
                if turn:
                    turn.stop.raise_if_set()
                raise run_error(error, image.shape) from error
        check_result(restored, image)
        return restored

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`: what ONNX Runtime tells its maker."""
        return tuple(filter(None, [telemetry(self._ort.__version__)]))

    def device_array(self, array: Any) -> DeviceArray:
        """As `Backend.device_array`; without cuda-bindings DLPack alone says which GPU it is on."""
        if self._cuda is None:
            return device_array_from(array, self._index)
        return array_on_gpu(array, self._cuda)

    def run_on_device(self, image: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
        """Restore a batch in the graph's form, in device memory, without a copy.

        Args:
            image: in the graph's form.
            out: None; the result is always in new memory.

        Returns:
            An array in memory of ONNX Runtime's, which it owns; the work is done.

        Raises:
            MissingDependencyError: the array is written in a stream, and there is no cuda-bindings
                to wait for it with.
            UsageError: an array to write to was given.
            OutOfMemoryError: there is not enough device memory for this shape.
            BackendError: ONNX Runtime failed, or this is closed.
        """
        if out is not None:
            raise UsageError(f"{self.name} returns its results in memory of its own; leave out out")
        # ONNX Runtime runs in a stream of its own, which does not wait for the caller's.
        if image.stream is not None:
            cuda = self._cuda or open_cuda(device=self._index)
            cuda.synchronize(cuda.wrap_stream(image.stream))
        with self._lock:
            session = self._open_session()
            try:
                binding = session.io_binding()
                where = ("image", "cuda", self._index, image.dtype.type, image.shape)
                binding.bind_input(*where, image.address)
                restored = self._run(binding, image.shape)
                address = restored.data_ptr()
            except Exception as error:
                raise run_error(error, image.shape) from error
        check_result(restored, image)
        return DeviceArray(address, image.shape, image.dtype, None, restored)

    def bytes_for(self, shape: Shape) -> int:
        """Estimate of the device memory that a run takes at most."""
        assert self._architecture is not None
        # What is typical was measured on a CPU, which computes everything in full precision.
        share = PRECISIONS[self.precision].bytes / PRECISIONS[FULL].bytes
        return round(shape.padded_pixels * typical_bytes_per_pixel(self._architecture) * share)

    def free_bytes(self) -> int | None:
        """Device memory that nobody has; None without cuda-bindings to ask with.

        What the session keeps for a shape that it has run twice in a row is not counted as free.
        """
        return self._cuda.memory()[0] if self._cuda else None

    def close(self) -> None:
        """Give the session back; further calls fail."""
        with self._lock:
            self._session = None

    def _open_session(self) -> Any:
        if self._session is None:
            raise BackendError("this session is closed; load the bundle again")
        return self._session

    def _run(self, binding: Any, dims: tuple[int, ...], turn: Turn | None = None) -> Any:
        """The output as an `OrtValue` on the device."""
        with stoppable(self._ort, turn) as options:
            return self._run_with(options, binding, dims)

    def _run_with(self, options: Any, binding: Any, dims: tuple[int, ...]) -> Any:
        if dims != self._last_dims:
            # Shapes that come once leave no memory behind; one that stays keeps its own.
            key = "memory.enable_memory_arena_shrinkage"
            options.add_run_config_entry(key, f"gpu:{self._index}")
        self._last_dims = dims
        binding.bind_output("restored", "cuda", self._index)
        self._session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        return binding.get_outputs()[0]


def open_backend(request: Request) -> OnnxRuntimeCuda:
    """The best graph of a bundle; raises as `OnnxRuntimeCuda` and `Request` do."""
    request.require_gpu()
    if request.stream is not None:
        raise UsageError(f"{request.backend} runs in a stream of its own; leave stream at None")
    entry = request.best_entry(GPU_PRECISIONS)
    with request.bundle.private_graph(entry) as path:
        return OnnxRuntimeCuda(
            path,
            entry.precision,
            entry.io,
            request.device,
            request.threads,
            request.bundle.manifest.architecture,
        )


def open_graph(graph: Path, precision: str, device: int, threads: int | None) -> OnnxRuntimeCuda:
    """A graph of the tensor form that is in no bundle."""
    return OnnxRuntimeCuda(graph, precision, "tensor", device, threads)


def run_tiny_graph(_: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    """For `maxim-doctor`: what the tiny graph makes of an image."""
    ort = require("onnxruntime", "gpu")
    if CUDA not in ort.get_available_providers():
        line = f"{PIP_LINE}{_replacing_cpu_build()}"
        raise BackendError(f"this onnxruntime was built without CUDA{line}")
    # Where they came from PyPI, CUDA and cuDNN are not on the loader's path.
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(TINY_GRAPH, options, providers=[CUDA])
    if session.get_providers()[0] != CUDA:  # it fell back without a word
        line = f"{PIP_LINE}pip install 'onnxruntime-gpu[cuda,cudnn]'"
        raise BackendError(f"CUDA or cuDNN cannot be loaded{line}" if find_gpu() else no_gpu())
    restored: NDArray[Any] = session.run(["restored"], {"image": image})[0]
    return restored


def _replacing_cpu_build() -> str:
    """Installing over the CPU build would leave files of both."""
    line = "pip install 'maxim-deploy[gpu]'"
    return f"pip uninstall -y onnxruntime && {line}" if installed_version("onnxruntime") else line


def _cuda(device: int) -> Cuda | None:
    try:
        return open_cuda(device=device)
    except MissingDependencyError:
        return None
