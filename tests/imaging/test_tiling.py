"""Tiles and their weights."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxim_deploy.errors import UsageError
from maxim_deploy.imaging.tiling import Tiling


def test_weights_take_memory_by_tile() -> None:
    tracemalloc.start()
    try:
        tiling = Tiling(64 * 4096, 64 * 4096, (128, 128), 64)
        assert tiling.count == 4095**2 and tracemalloc.get_traced_memory()[1] < 1e6
        next(iter(Tiling(64 * 4096, 64, (128, 64), 64)))
        assert tracemalloc.get_traced_memory()[1] < 64 * 4096 * 40
    finally:
        tracemalloc.stop()


SIDES = st.integers(1, 12).map(lambda n: 64 * n)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 300))
def test_weights_sum_to_one_and_tiles_stand_on_the_grid(h, w, th, tw, overlap) -> None:
    overlap = min(
        overlap, *(side - 64 for side, length in ((th, h), (tw, w)) if side < length), 300
    )
    tiling = Tiling(h, w, (th, tw), overlap)
    total, tiles = np.zeros((h, w)), 0
    rows: set[tuple[int, int]] = set()
    for (down, across), weights in tiling:
        assert weights.dtype == np.float32 and (weights >= 0).all()
        assert weights.shape == (min(th, h), min(tw, w))
        assert down.start % 64 == 0 and across.start % 64 == 0
        assert down.stop <= h and across.stop <= w
        total[down, across] += weights
        rows.add((down.start, down.stop))
        tiles += 1
    assert np.abs(total - 1).max() < 1e-6
    assert tiles == tiling.count
    ordered = sorted(rows)
    assert ordered[0][0] == 0 and ordered[-1][1] == h
    for (_, stop), (start, _) in pairwise(ordered):
        assert stop - start >= overlap


def test_few_tiles_and_smooth_weights() -> None:
    tiling = Tiling(64, 448, (64, 256), 64)
    windows = [(across.start, across.stop) for (_, across), _ in tiling]
    assert windows == [(0, 256), (192, 448)]
    (_, first), (_, second) = tiling
    assert (first[:, :192] == 1).all() and (second[:, 64:] == 1).all()
    fade = first[0, 192:]
    assert fade[0] > 0.999 and fade[-1] < 0.001 and (np.diff(fade) < 0).all()
    assert np.abs(np.diff(fade)).max() < 0.025  # no step at the seam


def test_one_tile_where_the_image_is_small() -> None:
    ((window, weights),) = Tiling(64, 128, (256, 256), 64)
    assert window == (slice(0, 64), slice(0, 128)) and (weights == 1).all()
    narrow = [window[1].start for window, _ in Tiling(64, 640, (64, 256), 64)]
    assert narrow == [0, 192, 384]  # a short side takes nothing from the overlap along the other


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((64, 64, (100, 64), 0), "sides in multiples of 64"),
        ((63, 64, (64, 64), 0), "sides in multiples of 64"),
        ((64, 64, (0, 64), 0), "sides in multiples of 64"),
        ((640, 640, (256, 256), 193), "can overlap by 0 to 192 pixels, not 193"),
        ((640, 640, (256, 256), -1), "not -1"),
    ],
)
def test_impossible(arguments, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tiling(*arguments)
