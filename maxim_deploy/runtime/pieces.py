"""Restore several images of any sizes in pieces, as many at a time as there are lanes."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.imaging import Padding
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.call import Call
from maxim_deploy.runtime.executor import Executor
from maxim_deploy.runtime.turns import fills

Piece = list[int]
"""Indices of images that can share a run."""

Ready = Callable[[int, NDArray[Any]], object]
"""Called with the index of an image and its result."""


def restore_pieces(
    work: Executor, images: Sequence[NDArray[Any]], call: Call, ready: Ready | None = None
) -> list[NDArray[Any]]:
    """Restore checked images `[H, W, 3]`, and return the results in their order.

    On a CPU the lanes of the backend share the images.

    Args:
        work: runs the network.
        images: of any sizes.
        call: its options.
        ready: called with each result once it is there, one at a time, in any thread.

    Raises:
        Exception: as `Executor.restore`, or of `ready`. Pieces that have not begun are left out
            then.
    """
    backend = work.require_open()
    # A GPU's lanes overlap transfers with arithmetic, and gain less than a larger batch does.
    lanes = backend.lanes if backend.uses_host_memory else 1
    beside, alone = _divided(_pieces(backend, images, lanes), images, lanes)
    results: dict[int, NDArray[Any]] = {}
    lock = threading.Lock()

    def restore(piece: Piece, call: Call) -> None:
        restored = work.restore([images[index] for index in piece], call)
        with lock:
            for index, result in zip(piece, restored, strict=True):
                results[index] = result
                if ready:
                    ready(index, result)

    if beside:
        # Settings of NumPy belong to the caller's context, and a context is entered once at a time.
        contexts = [contextvars.copy_context() for _ in beside]
        sharing = replace(call, shares=True)
        with ThreadPoolExecutor(min(lanes, len(beside)), "maxim-deploy-batch") as threads:
            for _ in threads.map(lambda c, piece: c.run(restore, piece, sharing), contexts, beside):
                pass
    for piece in alone:
        restore(piece, call)
    return [results[index] for index in range(len(images))]


def _pieces(backend: Backend, images: Sequence[NDArray[Any]], lanes: int) -> list[Piece]:
    """Images that can share a run; on a CPU in pieces of one run."""
    pieces = []
    for group in group_by_size(images, backend.io):
        runs = 1
        if backend.uses_host_memory:
            if backend.batch_pixels is not None:
                most = max(1, backend.batch_pixels // _pixels(images[group[0]]))
                runs = -(-len(group) // most)
            if fills(len(group), lanes):
                # As many as there are lanes, or a multiple: none is idle at the end.
                runs = min(len(group), -(-runs // lanes) * lanes)
        step = -(-len(group) // runs)
        pieces += [group[k : k + step] for k in range(0, len(group), step)]
    return pieces


def _divided(
    pieces: list[Piece], images: Sequence[NDArray[Any]], lanes: int
) -> tuple[list[Piece], list[Piece]]:
    """(those that run beside each other, the largest first; those that run alone afterwards)."""
    if lanes == 1:
        return [], pieces

    def size(piece: Piece) -> int:
        return sum(_pixels(images[index]) for index in piece)

    # Small pieces then fill what is left at the end.
    pieces = sorted(pieces, key=size, reverse=True)
    left = len(pieces) % lanes
    is_even = size(pieces[0]) == size(pieces[-1]) if pieces else True
    # Equal pieces end together, and the last round may leave lanes idle.
    if left and (is_even or len(pieces) < lanes) and not fills(left, lanes):
        return pieces[:-left], pieces[-left:]
    return pieces, []


def group_by_size(images: Iterable[NDArray[Any]], io: str) -> list[Piece]:
    """Group images that can share a run: by padded size, or in the image form by size."""
    groups: dict[tuple[int, int], Piece] = {}
    for index, image in enumerate(images):
        size = _padded(image) if io == "tensor" else image.shape[:2]
        groups.setdefault(size, []).append(index)
    return [groups[size] for size in sorted(groups)]


def _pixels(image: NDArray[Any]) -> int:
    height, width = _padded(image)
    return height * width


def _padded(image: NDArray[Any]) -> tuple[int, int]:
    padding = Padding(*image.shape[:2])
    return padding.padded_height, padding.padded_width
