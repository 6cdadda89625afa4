"""Pixel types to and from the network's range."""

from __future__ import annotations

import numpy as np
import pytest

from maxim_deploy.errors import UsageError
from maxim_deploy.imaging import check_image, from_unit, to_unit


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_every_level_survives_both_roundings(dtype, rounding) -> None:
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    back = from_unit(to_unit(levels), levels.dtype, "nearest")
    assert np.array_equal(back, levels)
    if rounding == "truncate":
        values = (levels + 0.6).astype(np.float32) / np.iinfo(dtype).max
        assert np.array_equal(from_unit(values, levels.dtype, "truncate"), levels)


def test_integers_are_clipped_and_rounded() -> None:
    values = np.float32([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0])
    eight_bit = np.dtype(np.uint8)
    assert from_unit(values, eight_bit).tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert from_unit(values, eight_bit, "truncate").tolist() == [0, 0, 0, 0, 254, 255, 255]


def test_float_is_left_alone() -> None:
    values = np.float32([-0.5, 1.5])
    assert np.array_equal(from_unit(values, values.dtype), values)
    assert np.array_equal(to_unit(values), values)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[1]], "must be a NumPy array, not list"),
        (np.zeros((4, 4), np.uint8), r"shape \(height, width, 3\), RGB, not \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"not \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float64), "uint8, uint16 or float32, not float64"),
        (np.full((4, 4, 3), np.nan, np.float32), "NaN or infinite"),
    ],
)
def test_bad_images(image, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_image(image)
