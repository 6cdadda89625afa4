"""Padded images through a backend: whole, in tiles, or eight times."""

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
"""A `Stack`, or one image `[H, W, 3]` likewise."""

Network = Callable[[Pixels], Pixels]

Networks = Callable[[Sequence[Stack]], list[Stack]]
"""The network on several stacks, side by side."""

Runner = Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]
"""Likewise of a backend, in the form of its graph."""

Window = tuple[slice, slice]
"""Rows and columns of a tile."""

ORIENTATIONS = 8
"""Of a self-ensemble."""


def stack_from_images(
    images: Sequence[NDArray[Any]], padded: tuple[int, int] | None = None
) -> Stack:
    """Images `[H, W, 3]` of one size, padded, and then reflected on at the end up to `padded`."""
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
    """The inverse of `stack_from_images`: the sizes and types of `like` come back."""
    restored = []
    for planes, image in zip(stack, like, strict=True):
        rows, columns = Padding(*image.shape[:2]).crop
        restored.append(image_from_planes(planes[:, rows, columns], image.dtype, rounding))
    return restored


def networks_from_runs(run: Runner, io: str) -> Networks:
    """A backend's runs as a function on padded images, whatever the form of its graph.

    A graph of the image form takes and gives 8 bits, so what goes through it is rounded.

    Args:
        run: takes and gives arrays in the form of the graph, C-contiguous.
        io: that form.
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
    """Restore tile by tile and blend; nothing is returned unless every tile was restored.

    Args:
        networks: takes stacks of several tiles of one size, and runs them side by side.
        stack: one padded image.
        tiling: of its size.
        batch: how many tiles are in a stack.
        width: asked before each time for how many stacks it takes.
    """
    # The weights of all tiles over a pixel add up to one, so blending is a plain sum. `zeros_like`
    # writes to its memory at once: between two tiles others plan with what the process has.
    blended = np.zeros_like(stack)
    rest = iter(tiling)
    while first := list(islice(rest, batch)):
        more = (list(islice(rest, batch)) for _ in range(width() - 1))
        rounds = [first, *(tiles for tiles in more if tiles)]
        restored = networks([_cut(stack, tiles) for tiles in rounds])
        # In the order of the tiles, whoever was first: sums of floats depend on their order.
        for tiles, several in zip(rounds, restored, strict=True):
            for (window, weights), tile in zip(tiles, several, strict=True):
                blended[0][(slice(None), *window)] += tile * weights
    return blended


def _cut(stack: Stack, tiles: Sequence[tuple[Window, NDArray[np.float32]]]) -> Stack:
    """`[N, 3, H, W]`: the parts of the only image in `stack` that N tiles are of."""
    return np.stack([stack[0][(slice(None), *window)] for window, _ in tiles])


def restore_by_self_ensemble(
    network: Network, image: Pixels, axes: tuple[int, int] = (0, 1)
) -> Pixels:
    """The published self-ensemble: the mean over eight rotations and flips, each undone.

    The orientations run one after the other, for those of an image that is not square do not stack.

    Args:
        network: on arrays such as `image`.
        image: padded.
        axes: of its rows and its columns; (-2, -1) in a `Stack`.
    """
    # Summed first and divided once: one division's rounding instead of eight.
    total = np.zeros(image.shape, np.float32)
    for turned, undo in orientations(image, axes):
        total += undo(network(turned))
    return total / np.float32(ORIENTATIONS)


def orientations(
    image: NDArray[Any], axes: tuple[int, int] = (0, 1)
) -> Iterator[tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[Any]]]]:
    """The eight orientations of an array, as views, each with what turns it back."""
    for flipped in (False, True):
        for turns in range(4):
            turned = np.rot90(np.flip(image, axes[1]) if flipped else image, turns, axes)

            def undo(x: NDArray[Any], turns: int = turns, flipped: bool = flipped) -> NDArray[Any]:
                back = np.rot90(x, -turns, axes)
                return np.flip(back, axes[1]) if flipped else back

            yield turned, undo
