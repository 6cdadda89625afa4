"""Convert between published arrays and the PyTorch module's state dict.

| layer | published | PyTorch |
|---|---|---|
| LayerNorm | `scale` [C] | `weight` [C] |
| any | `bias` [out] | `bias` [out] |
| dense | `kernel` [in, out] | `weight` [out, in] (`nn.Linear`) |
| 1x1 convolution | `kernel` [1, 1, in, out] | `weight` [out, in] (`nn.Linear`) |
| 3x3 and 4x4 convolution | `kernel` [kh, kw, in, out] | `weight` [out, in, kh, kw] (`nn.Conv2d`) |
| 2x2 transposed convolution | `kernel` [kh, kw, in, out] | `weight` [in, out, kh, kw], mirrored |

Mirrored means that both spatial axes are reversed. Flax slides the stored kernel over the dilated
input unchanged, but PyTorch mirrors it. Without mirroring every shape still fits, and the picture
is wrong by up to 0.58.
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
        path: its published path. The layer's name identifies transposed convolutions.
        array: the array in its published shape.

    Returns:
        A C-contiguous array of the same type. One-dimensional arrays are returned without a copy.
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
    """The valid PyTorch shapes of an array whose published shape is `shape`.

    The first is that of `to_torch`. `from_torch` accepts all.
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
        array: the array in PyTorch's layout. 1x1 convolutions may also have the shape of
            `nn.Conv2d`, [out, in, 1, 1].
        shape: the published shape, which distinguishes a 1x1 convolution from a dense layer. An
            array that does not fit is returned with another shape, so compare the shape afterwards.

    Returns:
        A C-contiguous array of the same type. One-dimensional arrays are returned without a copy.
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
