"""Pictures of several requests through one `Restorer`, as many at a time as are fastest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.runtime import Restorer

Images = Sequence[NDArray[np.uint8]]
"""Each `[H, W, 3]`, RGB."""


def restore_together(restorer: Restorer, images: Images) -> list[NDArray[np.uint8]]:
    """Restore pictures whose sizes may differ, as many at a time as the restorer has lanes.

    Raises:
        MaximDeployError: as `Restorer.batch` does; nothing is returned then.
    """
    if not images:
        return []
    info = restorer.info
    # A GPU's lanes overlap transfers with arithmetic, and gain less than a larger batch does.
    lanes = min(info.lanes if info.device == "cpu" else 1, len(images))
    if lanes == 1:
        return restorer.batch(images)
    shares = shared_out(images, lanes)
    restored: dict[int, NDArray[np.uint8]] = {}
    with ThreadPoolExecutor(lanes, "maxim-deploy-triton") as pool:
        done = pool.map(lambda share: restorer.batch([images[k] for k in share]), shares)
        for share, results in zip(shares, done, strict=True):
            restored |= dict(zip(share, results, strict=True))
    return [restored[index] for index in range(len(images))]


def shared_out(images: Images, count: int) -> list[list[int]]:
    """Indices of pictures in shares of about as many pixels, the largest dealt first."""
    shares: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for index in sorted(range(len(images)), key=lambda k: images[k].size, reverse=True):
        least = sizes.index(min(sizes))
        shares[least].append(index)
        sizes[least] += images[index].size
    return shares
