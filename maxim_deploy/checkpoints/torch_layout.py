"""Between published arrays and the PyTorch module's state dict: names one to one, axes moved.

| layer | published | PyTorch |
|---|---|---|
| LayerNorm | `scale` [C] | `weight` [C] |
| any | `bias` [out] | `bias` [out] |
| dense | `kernel` [in, out] | `weight` [out, in] (`nn.Linear`) |
| 1x1 convolution | `kernel` [1, 1, in, out] | `weight` [out, in] (`nn.Linear`) |
| 3x3 and 4x4 convolution | `kernel` [kh, kw, in, out] | `weight` [out, in, kh, kw] (`nn.Conv2d`) |
| 2x2 transposed convolution | `kernel` [kh, kw, in, out] | `weight` [in, out, kh, kw], mirrored |

Mirrored means both spatial axes reversed, and is the trap: Flax slides the stored kernel over the
dilated input as it is, PyTorch mirrors it. Without it every shape still fits, and the picture is
wrong by up to 0.58.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def torch_name(path: str) -> str:
    """The state-dict name of a published path: "a/b/kernel" is "a.b.weight"."""
    *modules, leaf = path.split("/")
    return ".".join([*modules, "bias" if leaf == "bias" else "weight"])


def to_torch(path: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A published array in PyTorch's layout.

    Args:
        path: its published path; the layer's name tells transposed convolutions from others.
        array: the array in its published shape.

    Returns:
        A C-contiguous array of the same type. One-dimensional arrays come back as they are, not as
        a copy.
    """
    if array.ndim == 4 and _is_transposed(path):
        array = array[::-1, ::-1].transpose(2, 3, 0, 1)
    elif array.ndim == 4 and array.shape[:2] == (1, 1):
        array = array[0, 0].T
    elif array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    else:
        array = array.T
    return np.asarray(array, order="C")


def torch_shapes(path: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes in PyTorch's layout of an array that has `shape` in the published one.

    The first is that of `to_torch`; `from_torch` takes the others as well.
    """
    if len(shape) < 4:
        return (shape[::-1],)
    if _is_transposed(path):
        return ((*shape[2:], *shape[:2]),)
    height, width, channels_in, channels_out = shape
    convolution = (channels_out, channels_in, height, width)
    is_1x1 = (height, width) == (1, 1)
    return ((channels_out, channels_in), convolution) if is_1x1 else (convolution,)


def from_torch(path: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The inverse of `to_torch`.

    Args:
        path: the published path.
        array: the array in PyTorch's layout. 1x1 convolutions may also be stored as `nn.Conv2d`
            stores them, [out, in, 1, 1].
        shape: the published shape, which tells a 1x1 convolution from a dense layer. An array that
            does not fit is moved all the same and comes back with another shape: compare.

    Returns:
        A C-contiguous array of the same type; one-dimensional arrays as they are.
    """
    if array.ndim == 4 and _is_transposed(path):
        array = array.transpose(2, 3, 0, 1)[::-1, ::-1]
    elif array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2 and len(shape) == 4:
        array = array.T[np.newaxis, np.newaxis]
    else:
        array = array.T
    return np.asarray(array, order="C")


def _is_transposed(path: str) -> bool:
    return path.split("/")[-2].startswith("ConvTranspose_")
