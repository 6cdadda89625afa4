"""A small interface to CUDA with two providers."""

from __future__ import annotations

from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.runtime.cuda.arrays import (
    DeviceArray,
    array_on_gpu,
    device_array_from,
    is_device_array,
)
from maxim_deploy.runtime.cuda.interface import (
    DEFAULT_STREAM,
    Cuda,
    DeviceMemory,
    Event,
    Graph,
    Stream,
)

__all__ = [
    "DEFAULT_STREAM",
    "PROVIDERS",
    "Cuda",
    "DeviceArray",
    "DeviceMemory",
    "Event",
    "Graph",
    "Stream",
    "array_on_gpu",
    "device_array_from",
    "is_device_array",
    "open_cuda",
]

PROVIDERS = ("cuda-bindings", "pycuda")


def open_cuda(provider: str = "cuda-bindings", device: int = 0) -> Cuda:
    """CUDA on one GPU.

    Args:
        provider: "cuda-bindings" or "pycuda". Both use the device's primary context, which
            TensorRT, ONNX Runtime and torch share.
        device: index of the GPU.

    Raises:
        UsageError: the provider is unknown, or the index is negative.
        MissingDependencyError: the provider's package is not installed.
        BackendError: there is no driver, or no such GPU.
    """
    check_known("CUDA provider", provider, PROVIDERS)
    if device < 0:
        raise UsageError(f"device must be 0 or more, not {device}")
    if provider == "pycuda":
        from maxim_deploy.runtime.cuda.pycuda_provider import PyCuda

        return PyCuda(device)
    from maxim_deploy.runtime.cuda.cuda_bindings import CudaBindings

    return CudaBindings(device)
