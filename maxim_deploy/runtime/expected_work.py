"""Decide whether expected work justifies compiling the network for each size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from maxim_deploy.imaging.padding import Padding

COMPILING_PIXELS = 500_000
"""Cost of compiling for a size, in padded pixels that ONNX Runtime restores in the same time: 0.6 s
at 1.2 microseconds each (demo model, two cores). With S-2 it is a third of that."""

GAIN = 0.2
"""Share of ONNX Runtime's time that OpenVINO saves: 0.15 to 0.4, more for larger pictures."""

MARGIN = 2
"""Required ratio of saved time to compile time: the job may end early."""

MOST_SIZES = 4
"""Most sizes that OpenVINO keeps. With more, it would compile a size again on each return."""


def compiling_pays(expected: Mapping[tuple[int, int], int]) -> bool:
    """Whether compiling saves time in a job, by the sizes that repeat.

    Args:
        expected: number of pictures by (height, width).

    Example:
        >>> from maxim_deploy.runtime.expected_work import compiling_pays
        >>> compiling_pays({(1080, 1920): 1}), compiling_pays({(384, 512): 100})
        (False, True)
    """
    shapes: Counter[tuple[int, int]] = Counter()
    for (height, width), count in expected.items():
        padding = Padding(height, width)
        shapes[padding.padded_height, padding.padded_width] += count
    if not 0 < len(shapes) <= MOST_SIZES:
        return False
    pixels = sum(height * width * count for (height, width), count in shapes.items())
    return GAIN * pixels >= MARGIN * COMPILING_PIXELS * len(shapes)


def in_tiles(expected: Mapping[tuple[int, int], int], side: int) -> dict[tuple[int, int], int]:
    """Approximate work if larger images run in tiles of this side.

    Example:
        >>> from maxim_deploy.runtime.expected_work import in_tiles
        >>> in_tiles({(3000, 4000): 1, (64, 64): 2}, 512)
        {(512, 512): 48, (64, 64): 2}
    """
    work: Counter[tuple[int, int]] = Counter()
    for (height, width), count in expected.items():
        if max(height, width) > side:
            work[side, side] += count * -(-height // side) * -(-width // side)
        else:
            work[height, width] += count
    return dict(work)


def in_words(expected: Mapping[tuple[int, int], int]) -> str:
    """The work in words: "100 pictures of 384x512", or with the number of sizes."""
    count = sum(expected.values())
    if len(expected) == 1:
        ((height, width),) = expected
        return f"{count} pictures of {height}x{width}"
    return f"{count} pictures of {len(expected)} sizes" if expected else "single pictures"
