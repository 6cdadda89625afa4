"""Run padded images through a backend: whole, in tiles, or in eight orientations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.imaging import Rounding, from_unit, to_unit
from maxim_deploy.imaging.padding import Padding
from maxim_deploy.imaging.planes import image_from_planes, padded_planes
from maxim_deploy.imaging.tiling import Tiling

Stack = NDArray[np.float32]
"""`[N, 3, H, W]` in [0, 1], float32, H and W multiples of 64."""

Pixels = NDArray[np.float32]
"""A `Stack`, or one image `[H, W, 3]` of the same type and range."""

Network = Callable[[Pixels], Pixels]

Networks = Callable[[Sequence[Stack]], list[Stack]]
"""Runs the network on several stacks concurrently."""

Runner = Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]
"""The same for a backend, in the form of its graph."""

Window = tuple[slice, slice]
"""Rows and columns of a tile."""

ORIENTATIONS = 8
"""Orientations of a self-ensemble."""


def stack_from_images(
    images: Sequence[NDArray[Any]], padded: tuple[int, int] | None = None
) -> Stack:
    """Pad images `[H, W, 3]` of one size, and extend them by reflection at the end to `padded`."""
    padding = Padding(*images[0].shape[:2])
    stack = np.empty((len(images), 3, padding.padded_height, padding.padded_width), np.float32)
    for image, planes in zip(images, stack, strict=True):
        padded_planes(image, planes)
    if padded is None or padded == stack.shape[2:]:
        return stack
    rest = [(0, side - has) for side, has in zip(padded, stack.shape[2:], strict=True)]
    return np.pad(stack, [(0, 0), (0, 0), *rest], mode="reflect")


def images_from_stack(
    stack: Stack, like: Sequence[NDArray[Any]], rounding: Rounding
) -> list[NDArray[Any]]:
    """The inverse of `stack_from_images`, with the sizes and types of `like`."""
    restored = []
    for planes, image in zip(stack, like, strict=True):
        rows, columns = Padding(*image.shape[:2]).crop
        restored.append(image_from_planes(planes[:, rows, columns], image.dtype, rounding))
    return restored


def networks_from_runs(run: Runner, io: str) -> Networks:
    """A backend as a function on padded images, for either form of its graph.

    A graph of the image form has 8-bit input and output, so values are rounded.

    Args:
        run: runs C-contiguous arrays in the graph's form.
        io: form of the graph.
    """

    def on_tensors(stacks: Sequence[Stack]) -> list[Stack]:
        return run([np.ascontiguousarray(stack) for stack in stacks])

    def on_images(stacks: Sequence[Stack]) -> list[Stack]:
        pixels = [from_unit(stack.transpose(0, 2, 3, 1), np.dtype(np.uint8)) for stack in stacks]
        restored = run([np.ascontiguousarray(one) for one in pixels])
        return [to_unit(one).transpose(0, 3, 1, 2) for one in restored]

    return on_images if io == "image" else on_tensors


def restore_in_tiles(
    networks: Networks,
    stack: Stack,
    tiling: Tiling,
    batch: int = 1,
    width: Callable[[], int] = lambda: 1,
) -> Stack:
    """Restore tile by tile and blend. The result needs every tile.

    Args:
        networks: runs stacks of several tiles of one size concurrently.
        stack: a padded image.
        tiling: tiling of its size.
        batch: tiles in a stack.
        width: called before each step for the number of concurrent stacks.
    """
    # The weights of all tiles at a pixel sum to one, so blending is a plain sum. `zeros_like`
    # touches its memory at once, because other callers may plan between two tiles by the process's
    # memory.
    blended = np.zeros_like(stack)
    rest = iter(tiling)
    while first := list(islice(rest, batch)):
        more = (list(islice(rest, batch)) for _ in range(width() - 1))
        rounds = [first, *(tiles for tiles in more if tiles)]
        restored = networks([_cut(stack, tiles) for tiles in rounds])
        # In the order of the tiles: sums of floats depend on their order.
        for tiles, several in zip(rounds, restored, strict=True):
            for (window, weights), tile in zip(tiles, several, strict=True):
                blended[0][(slice(None), *window)] += tile * weights
    return blended


def _cut(stack: Stack, tiles: Sequence[tuple[Window, NDArray[np.float32]]]) -> Stack:
    """The parts of the only image in `stack` for N tiles, `[N, 3, H, W]`."""
    return np.stack([stack[0][(slice(None), *window)] for window, _ in tiles])


def restore_by_self_ensemble(
    network: Network, image: Pixels, axes: tuple[int, int] = (0, 1)
) -> Pixels:
    """The published self-ensemble: the mean over eight rotations and flips, each undone.

    Orientations run one after the other, because those of an image that is not square cannot be
    stacked.

    Args:
        network: runs arrays like `image`.
        image: padded.
        axes: axes of rows and columns; (-2, -1) in a `Stack`.
    """
    # Summed first and divided once, which rounds once instead of eight times.
    total = np.zeros(image.shape, np.float32)
    for turned, undo in orientations(image, axes):
        total += undo(network(turned))
    return total / np.float32(ORIENTATIONS)


def orientations(
    image: NDArray[Any], axes: tuple[int, int] = (0, 1)
) -> Iterator[tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[Any]]]]:
    """The eight orientations of an array as views, each with its inverse."""
    for flipped in (False, True):
        for turns in range(4):
            turned = np.rot90(np.flip(image, axes[1]) if flipped else image, turns, axes)

            def undo(x: NDArray[Any], turns: int = turns, flipped: bool = flipped) -> NDArray[Any]:
                back = np.rot90(x, -turns, axes)
                return np.flip(back, axes[1]) if flipped else back

            yield turned, undo
