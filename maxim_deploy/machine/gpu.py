"""The NVIDIA GPU of this machine, if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import MissingDependencyError


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: such as "NVIDIA GeForce RTX 4090".
        compute_capability: such as "8.9".
        memory_bytes: memory of the whole device.
        cuda: newest CUDA version of the driver, such as "13.0".
    """

    name: str
    compute_capability: str
    memory_bytes: int
    cuda: str


def find_gpu(device: int = 0) -> Gpu | None:
    """The GPU of this index; None if it, the driver or cuda-bindings is missing.

    It creates no context, so it takes no device memory.
    """
    found = _gpu_or_reason(device)
    return found if isinstance(found, Gpu) else None


def why_no_gpu(device: int = 0) -> str:
    """Why `find_gpu` returns None, in words; empty if there is a GPU."""
    found = _gpu_or_reason(device)
    return "" if isinstance(found, Gpu) else found


def no_gpu(device: int = 0) -> str:
    """The message for a missing GPU, with the reason."""
    why = why_no_gpu(device)
    return f"there is no NVIDIA GPU {device} or no driver here{f', because {why}' if why else ''}"


def _gpu_or_reason(device: int) -> Gpu | str:
    try:
        cuda = require("cuda.bindings.driver", "rtx")
        return _ask(cuda, device)
    except (MissingDependencyError, RuntimeError) as error:
        # cuda-bindings also raise a RuntimeError if there is no driver.
        return str(error)
    # Bindings whose parts have different versions can raise any exception.
    except Exception as error:
        return f"cuda-bindings cannot be used ({type(error).__name__}: {error})"


def _ask(cuda: Any, device: int) -> Gpu:
    _value(cuda.cuInit(0))
    handle = _value(cuda.cuDeviceGet(device))
    attributes = cuda.CUdevice_attribute
    major, minor = (
        _value(cuda.cuDeviceGetAttribute(attribute, handle))
        for attribute in (
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    version = _value(cuda.cuDriverGetVersion())
    return Gpu(
        name=_value(cuda.cuDeviceGetName(128, handle)).decode().rstrip("\0").strip(),
        compute_capability=f"{major}.{minor}",
        memory_bytes=_value(cuda.cuDeviceTotalMem(handle)),
        cuda=f"{version // 1000}.{version % 1000 // 10}",
    )


def _value(answer: tuple[Any, ...]) -> Any:
    """The result of a driver call.

    Raises:
        RuntimeError: the call failed.
    """
    if int(answer[0]):
        raise RuntimeError(f"CUDA driver: {answer[0]}")
    return answer[1] if len(answer) > 1 else None
