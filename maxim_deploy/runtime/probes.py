"""Backends tried with a tiny graph: that a library can be imported says little about it.

    python -m maxim_deploy.runtime.probes onnxruntime

tries one of them and prints a line of JSON. `doctor` runs each in such a process of its own, since
a library that does not fit its driver may end the process that tries it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.machine.tensorrt import LIBRARIES, load_library, parse_graph
from maxim_deploy.machine.tiny_graph import TINY_GRAPH

NO_GPU = "no NVIDIA GPU or driver here"
_CUDA_LIBRARIES = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_RUN = "; run: "
"""What stands before the pip line in the errors of `require` and `load_library`, and in ours."""


@dataclass
class Verdict:
    """What became of one backend.

    Attributes:
        name: as `maxim_deploy.load` takes it.
        works: the tiny graph ran, and its result is right.
        reason: why it does not work, or None.
        install: the command line that puts it right, or None if none can or none is needed.
        builds_engines: for TensorRT, whether an engine can be built here; otherwise None.
        log: what the libraries said on stderr if it does not work.
    """

    name: str
    works: bool = False
    reason: str | None = None
    install: str | None = None
    builds_engines: bool | None = None
    log: str = ""


def verdict_on(name: str) -> Verdict:
    """Try a backend in this process.

    Args:
        name: a key of `PROBES`.
    """
    verdict = Verdict(name, builds_engines=False if name in LIBRARIES else None)
    try:
        restored = PROBES[name](verdict)
        if not np.array_equal(restored, _image() + 2 * np.roll(_image(), -1, axis=1)):
            raise BackendError("it computes a wrong result for a tiny graph")
        verdict.works = True
    except Exception as error:  # whatever a broken installation raises
        reason, _, install = str(error).partition(_RUN)
        verdict.reason = reason or type(error).__name__
        verdict.install = install or None
    return verdict


def _image() -> NDArray[np.float32]:
    """Small integers, which TF32 and float16 hold exactly."""
    return np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)


def _onnxruntime(_: Verdict) -> Any:
    ort = require("onnxruntime", "cpu")
    session = ort.InferenceSession(TINY_GRAPH, providers=["CPUExecutionProvider"])
    return session.run(["restored"], {"image": _image()})[0]


def _onnxruntime_cuda(_: Verdict) -> Any:
    ort = require("onnxruntime", "gpu")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise BackendError(f"this onnxruntime was built without CUDA{_RUN}{_replacing_cpu_build()}")
    # Where they came from PyPI, CUDA and cuDNN are not on the loader's path.
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(TINY_GRAPH, options, providers=["CUDAExecutionProvider"])
    if session.get_providers()[0] != "CUDAExecutionProvider":  # it fell back without a word
        why = f"CUDA or cuDNN cannot be loaded{_RUN}{_CUDA_LIBRARIES}" if find_gpu() else NO_GPU
        raise BackendError(why)
    return session.run(["restored"], {"image": _image()})[0]


def _replacing_cpu_build() -> str:
    """Installing over the CPU build would leave files of both."""
    line = "pip install 'maxim-deploy[gpu]'"
    try:
        metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        return line
    return f"pip uninstall -y onnxruntime && {line}"


def _tensorrt(verdict: Verdict) -> Any:
    trt = load_library(verdict.name)
    cudart = require("cuda.bindings.runtime", LIBRARIES[verdict.name][1])
    gpu = find_gpu()
    if gpu is None and verdict.name == "tensorrt":
        raise BackendError(NO_GPU)  # it builds for the GPU at hand
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "tiny.onnx"
        graph.write_bytes(TINY_GRAPH)
        parsed = parse_graph(trt, graph)
    if parsed.errors:
        raise BackendError(f"the parser refuses a tiny graph: {'; '.join(parsed.errors)}")
    config = parsed.builder.create_builder_config()
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        raise BackendError(_last_error(parsed.logger, "no engine can be built"))
    verdict.builds_engines = True
    if gpu is None:
        raise BackendError(NO_GPU)
    return _run_engine(trt, parsed.logger, plan, cudart)


def _run_engine(trt: ModuleType, logger: Any, plan: Any, cudart: Any) -> NDArray[np.float32]:
    """Run an engine of the tiny graph on the GPU. Memory is given back when the process ends."""
    runtime = trt.Runtime(logger)  # it must outlive the engine
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(_last_error(logger, "the engine cannot be loaded"))
    context = engine.create_execution_context()
    image, restored = _image(), np.zeros_like(_image())
    stream = _value(cudart.cudaStreamCreate())
    addresses = {name: _value(cudart.cudaMalloc(image.nbytes)) for name in ("image", "restored")}
    for name, address in addresses.items():
        context.set_tensor_address(name, address)
    kinds = cudart.cudaMemcpyKind
    to_device, to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
    size = image.nbytes
    _value(cudart.cudaMemcpy(addresses["image"], image.ctypes.data, size, to_device))
    if not context.execute_async_v3(int(stream)):
        raise BackendError(_last_error(logger, "the engine cannot be run"))
    _value(cudart.cudaStreamSynchronize(stream))
    _value(cudart.cudaMemcpy(restored.ctypes.data, addresses["restored"], size, to_host))
    return restored


def _value(answer: tuple[Any, ...]) -> Any:
    if int(answer[0]):
        raise BackendError(f"the CUDA runtime says {answer[0].name}")
    return answer[1] if len(answer) > 1 else None


def _last_error(logger: Any, what: str) -> str:
    errors = logger.texts("ERROR", "INTERNAL_ERROR")
    return f"{what}: {errors[-1] if errors else 'the library gives no reason'}"


PROBES: dict[str, Callable[[Verdict], Any]] = {
    "onnxruntime": _onnxruntime,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "tensorrt": _tensorrt,
    "tensorrt-rtx": _tensorrt,
}
"""By the name that users say: what runs the tiny graph on `_image()` and returns `restored`."""


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(asdict(verdict_on(sys.argv[1])))}\n")
