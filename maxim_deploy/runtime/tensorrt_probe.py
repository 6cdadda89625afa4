"""Probes of TensorRT and TensorRT for RTX for `maxim-doctor`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError
from maxim_deploy.machine.gpu import find_gpu, no_gpu
from maxim_deploy.machine.tensorrt import (
    error_recorder,
    load_library,
    parse_graph,
    quiet_logger,
)
from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.verdict import Verdict
from maxim_deploy.spec.engine_libraries import ENGINE_LIBRARIES


def run_tiny_graph(verdict: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    """Build an engine of the tiny graph, and run it on an image."""
    trt, library = load_library(verdict.name), ENGINE_LIBRARIES[verdict.name]
    cudart = require("cuda.bindings.runtime", library.extra)
    gpu = find_gpu()
    if gpu is None and not library.is_portable:
        raise BackendError(no_gpu())  # it builds for this machine's GPU
    plan = _built(trt)
    verdict.builds_engines = True
    if gpu is None:
        raise BackendError(no_gpu())
    return _run_engine(trt, plan, cudart, image)


def _built(trt: ModuleType) -> Any:
    """Build the engine. The builder is freed with its logger in Python, which no run may call."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "tiny.onnx"
        graph.write_bytes(TINY_GRAPH)
        parsed = parse_graph(trt, graph)
    if parsed.errors:
        raise BackendError(f"the parser refuses a tiny graph: {'; '.join(parsed.errors)}")
    config = parsed.builder.create_builder_config()
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    return _given(plan, "no engine can be built", parsed.logger.messages)


def _run_engine(trt: ModuleType, plan: Any, cudart: Any, image: NDArray[Any]) -> NDArray[Any]:
    """Run an engine of the tiny graph on the GPU. The end of the process frees the memory."""
    recorder, runtime = error_recorder(trt), trt.Runtime(quiet_logger(trt))
    # It also serves the engine and the context. The runtime must outlive both.
    runtime.error_recorder = recorder
    engine = runtime.deserialize_cuda_engine(plan)
    _given(engine, "the engine cannot be loaded", recorder.messages)
    context = engine.create_execution_context()
    _given(context, "no execution context can be made", recorder.messages)
    restored = np.zeros_like(image)
    stream = _value(cudart.cudaStreamCreate())
    addresses = {name: _value(cudart.cudaMalloc(image.nbytes)) for name in ("image", "restored")}
    for name, address in addresses.items():
        taken = context.set_tensor_address(name, address)
        _given(taken, f"the address of {name!r} is refused", recorder.messages)
    kinds = cudart.cudaMemcpyKind
    to_device, to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
    size = image.nbytes
    _value(cudart.cudaMemcpy(addresses["image"], image.ctypes.data, size, to_device))
    done = context.execute_async_v3(int(stream))
    _given(done, "the engine cannot be run", recorder.messages)
    _value(cudart.cudaStreamSynchronize(stream))
    _value(cudart.cudaMemcpy(restored.ctypes.data, addresses["restored"], size, to_host))
    return restored


def _value(answer: tuple[Any, ...]) -> Any:
    if int(answer[0]):
        raise BackendError(f"the CUDA runtime says {answer[0].name}")
    return answer[1] if len(answer) > 1 else None


def _given(answer: Any, what: str, messages: Iterable[tuple[str, str]]) -> Any:
    """The library's result, unless it is None or False."""
    if answer is None or answer is False:
        errors = [text for kind, text in messages if kind in ("ERROR", "INTERNAL_ERROR")]
        raise BackendError(f"{what}: {errors[-1] if errors else 'the library gives no reason'}")
    return answer
