"""Arrays in and out of Triton's python backend, by the version of NumPy.

Stubs that were built against NumPy 1 give empty outputs for arrays of NumPy 2, without an error
(Triton 24.10). Arrays that go through DLPack are right there; with NumPy 1 that way crashes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

INPUT, OUTPUT = "image", "restored"
"""Names of the model's tensors, as in the graphs of a bundle."""

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = [ctypes.py_object, ctypes.c_void_p]

_BY_DLPACK = int(np.__version__.partition(".")[0]) >= 2


class Tensors:
    """Reads and makes tensors.

    Args:
        triton: the module `triton_python_backend_utils`.
        by_dlpack: whether arrays go through DLPack.
    """

    def __init__(self, triton: Any, *, by_dlpack: bool = _BY_DLPACK) -> None:
        self._triton, self._by_dlpack = triton, by_dlpack

    def image(self, request: Any) -> NDArray[Any]:
        """The input of a request. It is Triton's memory, and gone when the request is answered."""
        tensor = self._triton.get_input_tensor_by_name(request, INPUT)
        array: NDArray[Any] = np.from_dlpack(tensor) if self._by_dlpack else tensor.as_numpy()
        return array

    def restored(self, array: NDArray[Any]) -> Any:
        """An output tensor of an array."""
        if self._by_dlpack:
            capsule = array.__dlpack__()
            tensor = self._triton.Tensor.from_dlpack(OUTPUT, capsule)
            # The stub frees the array, and has renamed the capsule to what NumPy does not know: for
            # each picture NumPy would write a traceback into the server's log.
            _set_destructor(capsule, None)
            return tensor
        return self._triton.Tensor(OUTPUT, array)
