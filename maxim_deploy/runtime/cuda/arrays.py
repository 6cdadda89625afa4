"""Arrays in device memory, exchanged without a copy.

Inputs have `__cuda_array_interface__` (versions 2 and 3) or `__dlpack__`. Results are
`DeviceArray`, which has `__cuda_array_interface__`, so torch, CuPy and Numba can read it.

An interface may name the stream that writes the array; torch's does not. DLPack always makes the
consumer's stream wait, so it is preferred to an interface without a stream. Without either, the
owner must synchronise before passing the array.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from maxim_deploy.errors import UsageError
from maxim_deploy.runtime.cuda.interface import DEFAULT_STREAM, Cuda

_DLPACK_CUDA = 2
_DLPACK_KINDS = {0: "i", 1: "u", 2: "f"}


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array in the memory of a GPU.

    Attributes:
        address: address of its first element.
        shape: shape of the array.
        dtype: type of the elements.
        stream: handle of the stream that writes it; None if it is complete.
        owner: object to keep alive with this one.
        read_only: whether writing is forbidden.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int | None
    owner: Any
    read_only: bool = False

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
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
    """Whether an array is in device memory. NumPy arrays have `__dlpack__` too, for the CPU.

    Raises:
        UsageError: the array is a tensor that records gradients.
    """
    return _interface(array) is not None or _dlpack_device(array)[0] == _DLPACK_CUDA


def device_array_from(array: Any, device: int = 0, stream: int = DEFAULT_STREAM) -> DeviceArray:
    """View an array in the memory of a GPU, without a copy.

    Args:
        array: object with `__cuda_array_interface__` or `__dlpack__`.
        device: the required GPU. Only DLPack states the GPU of an array.
        stream: handle of the stream that waits for the array, if DLPack is used.

    Raises:
        UsageError: it has neither protocol, is on another device, not C-contiguous, masked, of a
            type that NumPy lacks, or a tensor that records gradients.
    """
    interface, where = _interface(array), _dlpack_device(array)
    if interface is not None and (interface.get("stream") is not None or where[0] is None):
        return _from_interface(array, interface)
    if where[0] is None:
        raise UsageError(
            f"a device array has __cuda_array_interface__ or __dlpack__; {type(array).__name__} "
            "has neither"
        )
    if where != (_DLPACK_CUDA, device):
        raise UsageError(
            f"the array is on DLPack device {where[0]}:{where[1]}, not on GPU {device} "
            f"({_DLPACK_CUDA}:{device}): move it there, or load the bundle with its device"
        )
    return _from_dlpack(array, stream)


def array_on_gpu(array: Any, cuda: Cuda, stream: int = DEFAULT_STREAM) -> DeviceArray:
    """`device_array_from`, with the required GPU set as current.

    Raises:
        UsageError: as `device_array_from`, or if its address belongs to another GPU.
    """
    # torch exports tensors of the current GPU only.
    with cuda.active():
        taken = device_array_from(array, cuda.device, stream)
    if taken.nbytes and (found := cuda.device_of(taken.address)) not in (None, cuda.device):
        raise UsageError(
            f"the array is on GPU {found}, not on GPU {cuda.device}: move it there, or load the "
            "bundle with its device"
        )
    return taken


def _interface(array: Any) -> Any:
    """The value of `__cuda_array_interface__`, or None. It costs a call, so it is read once."""
    try:
        return getattr(array, "__cuda_array_interface__", None)
    except RuntimeError as error:  # torch raises it, and `hasattr` passes it on
        raise UsageError(
            f"this {type(array).__name__} cannot be read: pass array.detach() ({error})"
        ) from error


def _dlpack_device(array: Any) -> tuple[int | None, int]:
    """(kind, index) of the device; kind is None without DLPack."""
    if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
        return None, 0
    kind, index = array.__dlpack_device__()
    return int(kind), int(index)


def _from_interface(array: Any, interface: Any) -> DeviceArray:
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
    """Compare strides in units of `itemsize`. Strides of axes of length one have no meaning."""
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
    """The beginning of DLPack's DLManagedTensor: its DLTensor."""

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


def _from_dlpack(array: Any, stream: int) -> DeviceArray:
    """Make the stream wait for earlier work on the array."""
    try:
        capsule = array.__dlpack__(stream=stream)
    except (BufferError, RuntimeError) as error:
        raise UsageError(f"cannot take this array by DLPack: {error}") from error
    tensor = _Tensor.from_address(_capsule_pointer(capsule))
    if tensor.code not in _DLPACK_KINDS or tensor.lanes != 1 or tensor.bits % 8:
        raise UsageError(f"DLPack type {tensor.code} of {tensor.bits} bits x {tensor.lanes}")
    dtype = np.dtype(f"{_DLPACK_KINDS[tensor.code]}{tensor.bits // 8}")
    shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
    if tensor.strides:
        _check_contiguous(shape, tuple(tensor.strides[k] for k in range(tensor.ndim)), 1)
    # The capsule is not consumed. It is kept with the array and frees it when deleted.
    address = (tensor.data or 0) + tensor.byte_offset
    return DeviceArray(address, shape, dtype, stream, (array, capsule))


def _capsule_pointer(capsule: Any) -> int:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return int(pointer(capsule, b"dltensor"))
