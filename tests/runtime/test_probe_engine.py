"""The tiny engine on a GPU: TensorRT for RTX builds it truly, loading and running are played."""

from __future__ import annotations

import ctypes
import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gpus import L4
from runtime.fake_onnxruntime import computed

from maxim_deploy.runtime import tensorrt_probe
from maxim_deploy.runtime.probes import verdict_on


class Cuda:
    """The CUDA runtime with the host's memory for the device's; a synchronisation can fail."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.copies: list[int] = []
        self.status: Any = 0

    def cudaStreamCreate(self) -> tuple[int, int]:  # noqa: N802
        return 0, 7

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any]:  # noqa: N802
        assert stream == 7
        return (self.status,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        self.kept.append(ctypes.create_string_buffer(size))
        return 0, ctypes.addressof(self.kept[-1])

    def cudaMemcpy(self, to: int, source: int, size: int, kind: int) -> tuple[int]:  # noqa: N802
        self.copies.append(kind)
        ctypes.memmove(to, source, size)
        return (0,)


class Context:
    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.runs = True
        self.refuses = ""

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name != self.refuses

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7
        image, restored = (
            np.ctypeslib.as_array((ctypes.c_float * 48).from_address(self.addresses[name]))
            for name in ("image", "restored")
        )
        restored[:] = computed(image.reshape(1, 3, 4, 4)).ravel()
        return self.runs


@pytest.fixture
def gpu(monkeypatch) -> SimpleNamespace:
    """TensorRT for RTX builds truly; loading and running are played."""
    real = pytest.importorskip("tensorrt_rtx")
    context, cuda = Context(), Cuda()
    engine = SimpleNamespace(create_execution_context=lambda: context)
    played = ModuleType("tensorrt_rtx")
    played.__dict__.update({k: v for k, v in vars(real).items() if not k.startswith("__")})
    played.__version__ = real.__version__  # type: ignore[attr-defined]
    stage = SimpleNamespace(trt=played, context=context, cuda=cuda, engine=engine)

    def runtime(logger: object) -> SimpleNamespace:
        assert type(logger) is real.Logger  # one in Python could hang
        return SimpleNamespace(deserialize_cuda_engine=lambda _: stage.engine)

    played.Runtime = runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", played)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setattr(tensorrt_probe, "find_gpu", lambda: L4)
    return stage


def test_the_surface_of_the_bindings_that_the_stand_ins_claim() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    cudart = importlib.import_module("cuda.bindings.runtime")
    for name in ("set_tensor_address", "execute_async_v3"):
        assert callable(getattr(trt.IExecutionContext, name))
    assert callable(trt.Runtime.deserialize_cuda_engine)
    assert callable(trt.ICudaEngine.create_execution_context)
    for name in ("cudaStreamCreate", "cudaStreamSynchronize", "cudaMalloc", "cudaMemcpy"):
        assert callable(getattr(cudart, name))
    assert int(cudart.cudaError_t.cudaSuccess) == 0
    assert cudart.cudaMemcpyKind.cudaMemcpyHostToDevice != 0


def test_an_engine_that_runs(gpu) -> None:
    verdict = verdict_on("tensorrt-rtx")
    assert (verdict.works, verdict.reason, verdict.builds_engines) == (True, None, True)
    assert gpu.cuda.copies == [1, 2]


def test_an_engine_that_cannot_be_loaded_or_run(gpu) -> None:
    gpu.context.runs = False
    assert verdict_on("tensorrt-rtx").reason.startswith("the engine cannot be run: ")
    gpu.context.refuses = "restored"
    assert verdict_on("tensorrt-rtx").reason.startswith("the address of 'restored' is refused: ")
    gpu.engine.create_execution_context = lambda: None
    assert verdict_on("tensorrt-rtx").reason.startswith("no execution context can be made: ")
    gpu.engine = None
    verdict = verdict_on("tensorrt-rtx")
    assert verdict.reason == "the engine cannot be loaded: the library gives no reason"
    assert verdict.builds_engines


def test_an_error_of_the_cuda_runtime_is_named(gpu) -> None:
    cudart = importlib.import_module("cuda.bindings").runtime
    gpu.cuda.status = cudart.cudaError_t.cudaErrorIllegalAddress
    assert verdict_on("tensorrt-rtx").reason == "the CUDA runtime says cudaErrorIllegalAddress"


def test_tensorrt_builds_for_the_gpu_at_hand_only(gpu, monkeypatch) -> None:
    gpu.trt.__version__ = "10.14.1"
    monkeypatch.setitem(sys.modules, "tensorrt", gpu.trt)
    assert verdict_on("tensorrt").works
    monkeypatch.setattr(tensorrt_probe, "find_gpu", lambda: None)
    verdict = verdict_on("tensorrt")
    assert "there is no NVIDIA GPU 0" in str(verdict.reason) and not verdict.builds_engines
    gpu.trt.__version__ = "8.6.1"
    verdict = verdict_on("tensorrt")
    assert verdict.reason == "tensorrt 8.6.1 is too old, expected 10.12 or newer"
    assert verdict.install == "pip install --upgrade 'maxim-deploy[tensorrt]'"
