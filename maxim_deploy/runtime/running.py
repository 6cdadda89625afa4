"""A padded image through a backend: whole, in tiles, or eight times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.imaging.pixels import from_unit, to_unit
from maxim_deploy.imaging.tiling import Tiling
from maxim_deploy.runtime.backend import Backend

Pixels = NDArray[np.float32]
"""`[H, W, 3]` in [0, 1], float32."""

Network = Callable[[Pixels], Pixels]


def network_of(backend: Backend) -> Network:
    """A backend as a function on one padded image, whatever the form of its graph.

    A graph of the image form takes and gives 8 bits, so what goes through it is rounded.
    """

    def on_tensors(image: Pixels) -> Pixels:
        batch = np.ascontiguousarray(image.transpose(2, 0, 1))[np.newaxis]
        restored: Pixels = backend.run(batch)[0].transpose(1, 2, 0)
        return restored

    def on_images(image: Pixels) -> Pixels:
        pixels = from_unit(image, np.dtype(np.uint8))
        return to_unit(backend.run(np.ascontiguousarray(pixels)[np.newaxis])[0])

    return on_images if backend.io == "image" else on_tensors


def in_tiles(network: Network, image: Pixels, tiling: Tiling) -> Pixels:
    """Restore tile by tile and blend; nothing is returned unless every tile was restored."""
    blended = np.zeros_like(image)
    for window, weights in tiling:
        blended[window] += network(image[window]) * weights[..., np.newaxis]
    return blended


def ensemble(network: Network, image: Pixels) -> Pixels:
    """The published self-ensemble: the mean over eight rotations and flips, each undone.

    The orientations run one after the other, for those of an image that is not square do not stack.
    """
    total = np.zeros(image.shape, np.float32)
    for turned, undo in orientations(image):
        total += undo(network(turned))
    return total / np.float32(8)


def orientations(
    image: NDArray[Any],
) -> Iterator[tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[Any]]]]:
    """The eight orientations of `[H, W, ...]`, as views, each with what turns it back."""
    for flipped in (False, True):
        for turns in range(4):
            turned = np.rot90(image[:, ::-1] if flipped else image, turns)

            def undo(x: NDArray[Any], turns: int = turns, flipped: bool = flipped) -> NDArray[Any]:
                back = np.rot90(x, -turns)
                return back[:, ::-1] if flipped else back

            yield turned, undo
