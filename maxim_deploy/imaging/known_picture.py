"""A picture that is identical everywhere, for comparing backends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 64


def known_picture() -> NDArray[np.float32]:
    """Float32 `[1, 3, 64, 64]` in [0, 1]: a ramp on the left and noise on the right.

    A resize without antialias changes noise strongly and leaves a ramp alone. Both are whole
    numbers over 255, so all platforms round them alike. The noise does not come from NumPy's
    generator, whose sequence may change with its version.
    """
    number = np.arange(3 * SIDE * SIDE, dtype=np.uint64)
    noise = (number * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(24)
    levels = noise.reshape(3, SIDE, SIDE)
    rows, columns = np.mgrid[:SIDE, : SIDE // 2].astype(np.uint64)
    for channel in range(3):
        levels[channel, :, : SIDE // 2] = rows * 2 + columns * 2 + channel * 32
    return (levels[None] / 255).astype(np.float32)
