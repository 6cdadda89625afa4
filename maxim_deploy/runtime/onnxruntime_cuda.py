"""ONNX Runtime on an NVIDIA GPU.

Written against the documented API and tested at its surface. See "What ran where" in README.md.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
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
from maxim_deploy.spec.architecture import MULTIPLE_OF, Architecture
from maxim_deploy.spec.precision import FULL, GPU_PRECISIONS, PRECISIONS
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.run_memory import typical_bytes_per_pixel


class OnnxRuntimeCuda(Backend):
    """A session on an ONNX graph.

    Args:
        graph_path: the ONNX file, with its weights beside it.
        precision: precision inside the graph.
        io: form of the graph.
        device: index of the GPU.
        threads: CPU threads within an operator (few run on the CPU); None for one per core.
        architecture: architecture of the network, for its memory; only needed for plans.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: this ONNX Runtime has no CUDA, cannot use it here, cannot load the graph, or
            would run a part of the network on the CPU.
    """

    name = "onnxruntime-cuda"
    uses_host_memory = False
    takes_turns = True
    batch_pixels = 4 * 1024 * 1024
    """Not measured. Small images do not fill a GPU, but four megapixels do."""

    warmup_runs = 2
    """The second run of a shape keeps its memory, see `_run`."""

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
        """Restore a batch in host memory, in the graph's form. Returns the same shape and type.

        Threads take turns, because concurrent runs would take twice the memory.

        Raises:
            OutOfMemoryError: there is not enough device memory for this shape.
            BackendError: ONNX Runtime failed, or this is closed.
            BaseException: the reason of the turn's `stop`. Work already on the GPU is finished.
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
        """As `Backend.notes`: telemetry of ONNX Runtime."""
        return tuple(filter(None, [telemetry(self._ort.__version__)]))

    def device_array(self, array: Any) -> DeviceArray:
        """As `Backend.device_array`. Without cuda-bindings, only DLPack identifies the GPU."""
        if self._cuda is None:
            return device_array_from(array, self._index)
        return array_on_gpu(array, self._cuda)

    def run_on_device(self, image: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
        """Restore a batch in device memory, in the graph's form, without a copy.

        Args:
            image: in the graph's form.
            out: must be None: the result is always in new memory.

        Returns:
            An array that owns memory of ONNX Runtime. The work is done.

        Raises:
            MissingDependencyError: a stream writes the array, and cuda-bindings, which would wait
                for it, are missing.
            UsageError: `out` was given.
            OutOfMemoryError: there is not enough device memory for this shape.
            BackendError: ONNX Runtime failed, or this is closed.
        """
        if out is not None:
            raise UsageError(f"{self.name} returns results in its own memory; omit out")
        # ONNX Runtime's own stream does not wait for the caller's stream.
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
        """Estimated peak device memory of a run."""
        assert self._architecture is not None
        # Typical values were measured on a CPU, which computes in full precision.
        share = PRECISIONS[self.precision].bytes / PRECISIONS[FULL].bytes
        return round(shape.padded_pixels * typical_bytes_per_pixel(self._architecture) * share)

    def free_bytes(self) -> int | None:
        """Free device memory; None without cuda-bindings.

        Memory that the session keeps for a repeated shape does not count as free.
        """
        return self._cuda.memory()[0] if self._cuda else None

    def release(self) -> None:
        """Free the memory kept for a repeated shape.

        ONNX Runtime frees memory only at the end of a run, so a small one is needed.
        """
        if self._last_dims:
            self._last_dims = ()
            dtype = np.uint8 if self.io == "image" else np.float32
            self.run(np.zeros(Shape(1, MULTIPLE_OF, MULTIPLE_OF).dims(self.io), dtype))

    def close(self) -> None:
        """Free the session. Further calls fail."""
        with self._lock:
            self._session = None

    def _open_session(self) -> Any:
        if self._session is None:
            raise BackendError("this session is closed; load the bundle again")
        return self._session

    def _run(self, binding: Any, dims: tuple[int, ...], turn: Turn | None = None) -> Any:
        """Run the session. Returns the output as an `OrtValue` on the device."""
        with stoppable(self._ort, turn) as options:
            return self._run_with(options, binding, dims)

    def _run_with(self, options: Any, binding: Any, dims: tuple[int, ...]) -> Any:
        if dims != self._last_dims:
            # A shape that occurs once leaves no memory behind. A repeated shape keeps its memory.
            key = "memory.enable_memory_arena_shrinkage"
            options.add_run_config_entry(key, f"gpu:{self._index}")
        self._last_dims = dims
        binding.bind_output("restored", "cuda", self._index)
        self._session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        return binding.get_outputs()[0]


def open_backend(request: Request) -> OnnxRuntimeCuda:
    """Open the best graph of a bundle. Raises as `OnnxRuntimeCuda` and `Request` do."""
    request.require_gpu()
    if request.stream is not None:
        raise UsageError(f"{request.backend} uses its own stream; leave stream at None")
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
    """Open a graph of the tensor form outside of bundles."""
    return OnnxRuntimeCuda(graph, precision, "tensor", device, threads)


def run_tiny_graph(_: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    """For `maxim-doctor`: run the tiny graph on an image."""
    ort = require("onnxruntime", "gpu")
    if CUDA not in ort.get_available_providers():
        line = f"{PIP_LINE}{_replacing_cpu_build()}"
        raise BackendError(f"this onnxruntime was built without CUDA{line}")
    # CUDA and cuDNN from PyPI are not on the loader's path.
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(TINY_GRAPH, options, providers=[CUDA])
    if session.get_providers()[0] != CUDA:  # it fell back silently
        line = f"{PIP_LINE}pip install 'onnxruntime-gpu[cuda,cudnn]'"
        raise BackendError(f"CUDA or cuDNN cannot be loaded{line}" if find_gpu() else no_gpu())
    restored: NDArray[Any] = session.run(["restored"], {"image": image})[0]
    return restored


def _replacing_cpu_build() -> str:
    """The pip line. Installing over the CPU build would mix files of both."""
    line = "pip install 'maxim-deploy[gpu]'"
    return f"pip uninstall -y onnxruntime && {line}" if installed_version("onnxruntime") else line


def _cuda(device: int) -> Cuda | None:
    try:
        return open_cuda(device=device)
    except MissingDependencyError:
        return None
