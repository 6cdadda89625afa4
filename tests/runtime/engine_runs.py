"""Engines of a bundle, opened and run, on fakes or on a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from engines.bundles import entry_of
from gpus import L4
from runtime import fake_tensorrt
from runtime.cuda.fakes import FakeRuntime

from maxim_deploy.engines.validity import Validity
from maxim_deploy.runtime import tensorrt_engines
from maxim_deploy.runtime.cuda import Cuda, DeviceArray, cuda_bindings, open_cuda
from maxim_deploy.runtime.tensorrt_backend import TensorRtBackend
from maxim_deploy.spec.bundle import Bundle


def fake_cuda(patch: pytest.MonkeyPatch) -> FakeRuntime:
    api = FakeRuntime(total=64 << 20)
    patch.setattr(cuda_bindings, "require", lambda *_: api)
    return api


def fake_library(patch: pytest.MonkeyPatch, api: FakeRuntime) -> SimpleNamespace:
    """Either library, on a GPU for which every engine is valid."""
    trt = fake_tensorrt.fake_module(api)
    patch.setattr(tensorrt_engines, "load_library", lambda name: trt)
    patch.setattr(tensorrt_engines, "find_gpu", lambda device: L4)
    patch.setattr(tensorrt_engines, "validity_of", lambda *_: Validity())
    return trt


def opened(bundle: Bundle, *arguments: str, **options: object) -> TensorRtBackend:
    return TensorRtBackend(bundle, entry_of(bundle, *arguments), open_cuda(), **options)


def picture(height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), np.uint8)


def on_device(cuda: Cuda, image: np.ndarray, stream: int | None = None) -> DeviceArray:
    memory = cuda.allocate(image.nbytes)
    cuda.upload(memory.address, image, cuda.stream())
    return DeviceArray(memory.address, image.shape, image.dtype, stream, memory)


def fetched(cuda: Cuda, array: DeviceArray) -> np.ndarray:
    host = np.empty(array.shape, array.dtype)
    cuda.download(host, array.address, cuda.stream())
    return host
