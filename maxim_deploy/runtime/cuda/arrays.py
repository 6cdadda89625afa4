"""Arrays in device memory, taken and given without a copy.

Taken is whatever has `__cuda_array_interface__` (versions 2 and 3) or `__dlpack__`; given is a
`DeviceArray`, which has the former: torch, CuPy and Numba read it as it is.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from maxim_deploy.errors import UsageError

_DLPACK_CUDA = 2
_DLPACK_KINDS = {0: "i", 1: "u", 2: "f"}


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array in the memory of a GPU.

    Attributes:
        address: of its first element.
        shape: of the array.
        dtype: of the elements.
        stream: handle of the stream in which it is written; None if it is there already.
        owner: kept alive as long as this object is.
        read_only: whether it must not be written to.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int | None
    owner: Any
    read_only: bool = False

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if self.nbytes else 0, self.read_only),
            "strides": None,
            "version": 3,
            "stream": self.stream,
        }


def is_device_array(array: Any) -> bool:
    """Whether `device_array_from` is for it. NumPy arrays have `__dlpack__` too, for the CPU."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    return hasattr(array, "__dlpack_device__") and int(array.__dlpack_device__()[0]) == _DLPACK_CUDA


def device_array_from(array: Any, device: int = 0) -> DeviceArray:
    """An array in the memory of a GPU, without a copy.

    Args:
        array: whatever has `__cuda_array_interface__` or `__dlpack__`.
        device: the GPU whose memory it must be; only DLPack says which one it is.

    Raises:
        UsageError: it is neither, on another device, not C-contiguous, masked, or of a type that
            NumPy does not have.
    """
    if hasattr(array, "__cuda_array_interface__"):
        return _from_interface(array)
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        return _from_dlpack(array, device)
    raise UsageError(
        f"a device array has __cuda_array_interface__ or __dlpack__; {type(array).__name__} has "
        "neither"
    )


def _from_interface(array: Any) -> DeviceArray:
    interface = array.__cuda_array_interface__
    if interface["version"] < 2:
        raise UsageError(f"__cuda_array_interface__ of version {interface['version']}; 2 or 3 do")
    if interface.get("mask") is not None:
        raise UsageError("a masked device array cannot be restored: fill it first")
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    _check_contiguous(shape, interface.get("strides"), dtype.itemsize)
    address, read_only = interface["data"]
    return DeviceArray(address, shape, dtype, interface.get("stream"), array, read_only)


def _check_contiguous(
    shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int
) -> None:
    """Strides in units of `itemsize`; those of axes of one element mean nothing."""
    if strides is None or 0 in shape:
        return
    expected = itemsize
    for size, stride in reversed(list(zip(shape, strides, strict=True))):
        if size != 1 and stride != expected:
            raise UsageError(
                f"device array of shape {shape} with strides {tuple(strides)} is not C-contiguous: "
                "make a contiguous copy, array.contiguous() in torch"
            )
        expected *= size


class _Tensor(ctypes.Structure):
    """The start of DLPack's DLManagedTensor, which is its DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_dlpack(array: Any, device: int) -> DeviceArray:
    """The capsule is not consumed: it keeps the array, and gives it back when it goes itself."""
    kind, index = array.__dlpack_device__()
    if (int(kind), index) != (_DLPACK_CUDA, device):
        raise UsageError(
            f"the array is on DLPack device {int(kind)}:{index}, not on GPU {device} "
            f"({_DLPACK_CUDA}:{device})"
        )
    # Stream 1 is the legacy default one: what was done to the array is done before its next work.
    capsule = array.__dlpack__(stream=1)
    tensor = _Tensor.from_address(_capsule_pointer(capsule))
    if tensor.code not in _DLPACK_KINDS or tensor.lanes != 1 or tensor.bits % 8:
        raise UsageError(f"DLPack type {tensor.code} of {tensor.bits} bits x {tensor.lanes}")
    dtype = np.dtype(f"{_DLPACK_KINDS[tensor.code]}{tensor.bits // 8}")
    shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
    if tensor.strides:
        _check_contiguous(shape, tuple(tensor.strides[k] for k in range(tensor.ndim)), 1)
    # The capsule is not consumed: kept with the array, it gives that back when it goes itself.
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, dtype, 1, (array, capsule))


def _capsule_pointer(capsule: Any) -> int:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return int(pointer(capsule, b"dltensor"))
