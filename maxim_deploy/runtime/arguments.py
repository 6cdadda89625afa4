"""Check the arguments of a `Restorer`'s calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import UsageError
from maxim_deploy.imaging import Rounding, check_image, check_rounding
from maxim_deploy.runtime.backend import Backend

SAMPLE = 64
"""Rows and columns of an image to sample. Reading all would take as long as a copy."""


class CudaArray(Protocol):
    """An array in device memory."""

    @property
    def __cuda_array_interface__(self) -> Any: ...


class HostArray(Protocol):
    """An array of another library in host memory."""

    def __dlpack__(self) -> Any: ...


def as_array(image: Any) -> NDArray[Any]:
    """Return NumPy arrays unchanged, and arrays of other libraries in host memory by DLPack.

    Raises:
        UsageError: it is not an array, or cannot be read.
    """
    if isinstance(image, np.ndarray):
        return image
    if not hasattr(image, "__dlpack__"):
        raise UsageError(f"an image must be a NumPy array, not {type(image).__name__}")
    try:
        return np.from_dlpack(image)
    except (BufferError, RuntimeError, TypeError) as error:
        raise UsageError(f"cannot read this array by DLPack: {error}") from error


def check_images(images: Sequence[NDArray[Any]]) -> None:
    """Raise an error for an invalid image, with its index if there are several.

    Raises:
        UsageError: as `check_image`.
    """
    for index, image in enumerate(images):
        try:
            check_image(image)
        except UsageError as error:
            if len(images) == 1:
                raise
            raise UsageError(f"images[{index}] | {error}") from error


def check_call(
    backend: Backend, dtype: np.dtype[Any], rounding: Rounding, self_ensemble: bool
) -> None:
    """Raise an error for a request that a backend cannot fulfil.

    Raises:
        UsageError: the rounding is unknown, or a graph of the image form does not support the
            request.
    """
    check_rounding(rounding)
    if backend.io == "image" and (dtype != np.uint8 or rounding != "nearest" or self_ensemble):
        how = f"{dtype}{' in a self-ensemble' if self_ensemble else ''} and {rounding!r}"
        raise UsageError(
            "this bundle has the image form only, which takes uint8 and rounds to nearest, not "
            f"{how}; export it again with --io image,tensor"
        )


def looks_like_levels(image: NDArray[Any]) -> bool:
    """Whether a float32 image seems to have values from 0 to 255, by a mean above 1.

    Single values above 1 are highlights. In a batch `[N, 3, H, W]` the first image is checked.
    """
    if image.dtype != np.float32 or not image.size:
        return False
    plane = image[0, 0] if image.ndim == 4 else image
    rows, columns = (max(1, side // SAMPLE) for side in (*plane.shape, 1)[:2])
    return bool(plane[::rows, ::columns].mean() > 1) if plane.ndim > 1 else False


def seconds_from(timeout: float) -> float:
    """A checked timeout. Infinity means none.

    Raises:
        UsageError: it is not a number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout):
        raise UsageError(f"timeout must be a number of seconds or None, not {timeout!r}")
    return float(timeout)
