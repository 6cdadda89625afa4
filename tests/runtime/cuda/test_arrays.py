"""Device arrays in and out, by both protocols."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from maxim_deploy.errors import UsageError
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.runtime.cuda import DeviceArray, arrays, device_array_from, is_device_array

INTERFACE = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "version": 3}


def exporting(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(__cuda_array_interface__={**INTERFACE, **changes})


@pytest.mark.parametrize("strides", [None, (12, 4)])
def test_from_the_interface(strides) -> None:
    array = device_array_from(exporting(strides=strides, stream=5))
    assert (array.address, array.shape, array.dtype, array.stream) == (4096, (2, 3), "<f4", 5)
    assert not array.read_only and array.nbytes == 24
    assert device_array_from(exporting(version=2)).stream is None


def test_strides_of_single_rows_mean_nothing() -> None:
    assert device_array_from(exporting(shape=(1, 3), strides=(999, 4))).shape == (1, 3)
    assert device_array_from(exporting(shape=(0, 3), strides=(1, 1), data=(0, False))).nbytes == 0


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"strides": (4, 8)}, r"strides \(4, 8\) is not C-contiguous"),
        ({"strides": (16, 4)}, "is not C-contiguous"),
        ({"strides": (-12, 4)}, "is not C-contiguous"),
        ({"mask": object()}, "masked"),
        ({"version": 1}, "of version 1; 2 or 3 do"),
    ],
)
def test_what_cannot_be_taken(changes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        device_array_from(exporting(**changes))


def test_out_and_in_again() -> None:
    owner = object()
    array = DeviceArray(8192, (4, 5), np.dtype(np.uint8), 9, owner, True)
    again = device_array_from(array)
    assert (again.address, again.shape, again.stream, again.read_only) == (8192, (4, 5), 9, True)
    assert again.owner is array
    assert DeviceArray(1, (0,), array.dtype, None, None).__cuda_array_interface__["data"][0] == 0


class OnGpu:
    """A NumPy array that says it is on a GPU; NumPy's capsule has the layout of any other."""

    stream = 1

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (2, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None):
        assert stream == self.stream
        return self.array.__dlpack__()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.int64])
def test_from_dlpack(dtype) -> None:
    array = np.arange(24).astype(dtype).reshape(2, 3, 4)[1:]
    taken = device_array_from(OnGpu(array))
    assert (taken.address, taken.shape, taken.dtype) == (array.ctypes.data, (1, 3, 4), dtype)
    assert taken.stream == 1


class Torch(OnGpu):
    """As torch's tensors: both protocols, and an interface of version 2."""

    names: dict[str, object] | None = None

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {**self.array.__array_interface__, **(self.names or {"version": 2})}


def test_dlpack_comes_before_an_interface_that_names_no_stream() -> None:
    """It makes a stream wait; the interface would be read while the array is written."""
    tensor = Torch(np.zeros((2, 3), np.float32))
    tensor.stream = 77
    assert device_array_from(tensor, 0, 77).stream == 77
    tensor.names = {"version": 3, "stream": None}
    assert device_array_from(tensor, 0, 77).stream == 77
    tensor.names = {"version": 3, "stream": 5}
    assert device_array_from(tensor, 0, 77).stream == 5


def test_a_tensor_that_records_gradients() -> None:
    class Recording(OnGpu):
        @property
        def __cuda_array_interface__(self) -> dict[str, object]:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")

    class Newer(OnGpu):
        def __dlpack__(self, *, stream: int | None):
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

    for take in (is_device_array, device_array_from):
        with pytest.raises(
            UsageError, match=r"this Recording cannot be read: pass array\.detach\(\)"
        ):
            take(Recording(np.zeros(1)))
    with pytest.raises(UsageError, match=r"by DLPack: .*use tensor\.detach\(\)"):
        device_array_from(Newer(np.zeros(1)))


def test_dlpack_with_an_offset() -> None:
    array = np.arange(6, dtype=np.float32)

    class Offset(OnGpu):
        def __dlpack__(self, *, stream: int | None):
            capsule = super().__dlpack__(stream=stream)
            tensor = arrays._Tensor.from_address(arrays._capsule_pointer(capsule))
            tensor.data, tensor.byte_offset = tensor.data - 64, 64
            return capsule

    assert device_array_from(Offset(array)).address == array.ctypes.data


def test_dlpack_that_cannot_be_taken() -> None:
    array = np.zeros((4, 6), np.float32)
    with pytest.raises(UsageError, match=r"strides \(6, 2\) is not C-contiguous"):
        device_array_from(OnGpu(array[:, ::2]))
    with pytest.raises(UsageError, match=r"on DLPack device 2:1, not on GPU 0"):
        device_array_from(OnGpu(array, (2, 1)))
    with pytest.raises(UsageError, match="DLPack device 1:0"):
        device_array_from(array)
    with pytest.raises(UsageError, match="list has neither"):
        device_array_from([1])
    with pytest.raises(UsageError, match="DLPack type 5 of 64 bits"):
        device_array_from(OnGpu(array.astype(np.complex64)))


def test_which_arrays_are_on_a_device() -> None:
    assert is_device_array(exporting()) and is_device_array(OnGpu(np.zeros(1)))
    assert not is_device_array(np.zeros(1)) and not is_device_array([1])


def test_the_array_lives_as_long_as_what_was_taken() -> None:
    taken = device_array_from(OnGpu(np.arange(5, dtype=np.float32)))
    view = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_float * 5).from_address(taken.address))  # type: ignore[attr-defined]
    assert view.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.gpu
def test_with_torch_on_a_gpu() -> None:
    if find_gpu() is None:
        pytest.skip("no NVIDIA GPU or driver here")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    tensor = torch.arange(6.0, device="cuda").reshape(2, 3)
    taken = device_array_from(tensor)
    assert taken.address == tensor.data_ptr()
    assert torch.equal(torch.as_tensor(taken, device="cuda"), tensor)
