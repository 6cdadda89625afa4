"""What a restorer makes of pictures, and the demo model as each host gets it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import maxim_deploy
from maxim_deploy.hosts.order import Wishes
from maxim_deploy.hosts.table import host_named
from maxim_deploy.hosts.writing import order_from_bundle, write_for_host
from maxim_deploy.spec.bundle import Bundle

NOTHING_SPECIAL = Wishes()

Write = Callable[..., Path]
Expected = Callable[[tuple[int, int]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@pytest.fixture(scope="session")
def write(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """The folder that a host gets of the demo model, written once for each set of wishes."""

    @functools.cache
    def written(name: str, wishes: Wishes = NOTHING_SPECIAL) -> Path:
        host, folder = host_named(name), tmp_path_factory.mktemp("hosts") / name
        host.check(wishes)
        order = order_from_bundle(Bundle.open(demo_bundle), host, wishes, lambda _: None)
        write_for_host(host, order, folder)
        return folder

    return written


@pytest.fixture(scope="session")
def expected(demo_bundle: Path) -> Iterator[Expected]:
    """Of a size: a picture `[3, H, W]` float32 in [0, 1], and what a restorer makes of it."""
    with maxim_deploy.load(demo_bundle, precision="fp32") as restorer:

        @functools.cache
        def of(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            image = np.random.default_rng(7).random((*size, 3), np.float32)
            restored = restorer(image).clip(0, 1)
            return image.transpose(2, 0, 1), restored.transpose(2, 0, 1)

        yield of
