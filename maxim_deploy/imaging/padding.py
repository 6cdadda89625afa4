"""The padding of the published evaluation, as a value with an exact inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.spec.architecture import MULTIPLE_OF


@dataclass(frozen=True)
class Padding:
    """The padding of an image of `height` x `width` pixels (each at least 1) for the network.

    An odd side first gets one row or column at its end. Then each side is padded to the next
    multiple of 64, half before and half after. Both steps reflect without repeating the edge pixel.
    If a side is shorter than its padding, the reflection goes back and forth; a side of one pixel
    is repeated. This extends the evaluation of the published code to every size.
    """

    height: int
    width: int

    @property
    def padded_height(self) -> int:
        """Height that the network sees, a multiple of 64."""
        return _padded(self.height)

    @property
    def padded_width(self) -> int:
        """Width that the network sees, a multiple of 64."""
        return _padded(self.width)

    @property
    def crop(self) -> tuple[slice, slice]:
        """Rows and columns of the padded image that hold the original."""
        top, left = _before(self.height), _before(self.width)
        return slice(top, top + self.height), slice(left, left + self.width)

    @property
    def sources(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The source row of each padded row, and the source column of each padded column."""
        return _source_index(self.height), _source_index(self.width)

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """`[height, width, ...]` to `[padded_height, padded_width, ...]`, same dtype.

        Without padding the input itself is returned.
        """
        for axis, size in enumerate((self.height, self.width)):
            # Only sides that need it: each `take` copies the whole image.
            if size % MULTIPLE_OF:
                image = np.take(image, _source_index(size), axis=axis)
        return image

    def undo(self, padded: NDArray[Any]) -> NDArray[Any]:
        """`[padded_height, padded_width, ...]` to `[height, width, ...]`, as a view."""
        return padded[self.crop]


def _padded(size: int) -> int:
    return (size + MULTIPLE_OF - 1) // MULTIPLE_OF * MULTIPLE_OF


def _before(size: int) -> int:
    # From the even size, as in the published evaluation: the row that makes a side even lies at the
    # end and is not part of the half before.
    even = size + size % 2
    return (_padded(size) - even) // 2


def _source_index(size: int) -> NDArray[np.intp]:
    """Source rows of padded rows. The same serves for columns."""
    # Indices are padded rather than pixels. NumPy reflects back and forth if the padding is longer
    # than the side. Both steps become one `take`, exact for every pixel type.
    even = np.pad(np.arange(size), (0, size % 2), mode="reflect")
    return np.pad(even, _before(size), mode="reflect")
