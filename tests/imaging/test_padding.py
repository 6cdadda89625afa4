"""Padding against the measured one of the published evaluation, and its inverse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from maxim_deploy.imaging import Padding

MEASURED = json.loads((reference.DATA / "padding.json").read_text())
PIXELS = reference.load("padding")


@pytest.mark.parametrize(
    "size", MEASURED["sizes"], ids=lambda size: "x".join(map(str, size["size"]))
)
def test_sizes_and_crops(size: dict) -> None:
    padding = Padding(*size["size"])
    assert [padding.padded_height, padding.padded_width] == size["padded"]
    rows, columns = padding.crop
    assert [rows.start, rows.stop] == size["crop_rows"]
    assert [columns.start, columns.stop] == size["crop_cols"]


def test_where_each_padded_row_comes_from() -> None:
    assert len(MEASURED["row_source"]) == 200
    for size, sources in MEASURED["row_source"].items():
        rows = np.arange(int(size)).reshape(-1, 1)
        assert Padding(int(size), 1).apply(rows)[:, 0].tolist() == sources, size
        columns = rows.T
        assert Padding(1, int(size)).apply(columns)[0].tolist() == sources, size


@pytest.mark.parametrize("size", [name[3:] for name in PIXELS if name.startswith("in_")])
def test_pixels(size: str) -> None:
    image = PIXELS[f"in_{size}"]
    padded = Padding(*image.shape[:2]).apply(image.astype(np.float32) / np.float32(255))
    assert np.array_equal(padded, PIXELS[f"padded_{size}"])


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_round_trip(height: int, width: int) -> None:
    image = np.arange(height * width * 2, dtype=np.float32).reshape(height, width, 2)
    padding = Padding(height, width)
    padded = padding.apply(image)
    assert padded.shape == (padding.padded_height, padding.padded_width, 2)
    assert padding.padded_height % 64 == padding.padded_width % 64 == 0
    assert np.array_equal(padding.undo(padded), image)


def test_nothing_is_copied_where_nothing_is_padded() -> None:
    image = np.zeros((64, 128, 3))
    assert Padding(64, 128).apply(image) is image
