"""The short way to and from the network's planes gives what the long one does, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxim_deploy.imaging import Padding, from_unit, to_unit
from maxim_deploy.imaging.planes import image_from_planes, padded_planes

DTYPES = [np.uint8, np.uint16, np.float32]


def image_of(height: int, width: int, dtype: type) -> np.ndarray:
    random = np.random.default_rng(height * 1000 + width)
    if dtype == np.float32:
        return random.random((height, width, 3), np.float32)
    return random.integers(0, np.iinfo(dtype).max + 1, (height, width, 3), dtype)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(DTYPES), st.booleans())
def test_there(height: int, width: int, dtype: type, flipped: bool) -> None:
    image = image_of(height, width, dtype)
    image = image[::-1, ::-1] if flipped else image
    padding = Padding(height, width)
    planes = np.full((3, padding.padded_height, padding.padded_width), np.nan, np.float32)
    padded_planes(image, planes)
    assert np.array_equal(planes, padding.apply(to_unit(image)).transpose(2, 0, 1))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.sampled_from(DTYPES),
    st.sampled_from(["nearest", "truncate"]),
)
def test_and_back(height: int, width: int, dtype: type, rounding) -> None:
    values = np.random.default_rng(height).normal(0.5, 0.5, (3, height, width)).astype(np.float32)
    image = image_from_planes(values, np.dtype(dtype), rounding)
    expected = from_unit(values.transpose(1, 2, 0), np.dtype(dtype), rounding)
    assert np.array_equal(image, expected) and image.dtype == dtype
    assert image.flags.c_contiguous and not np.shares_memory(image, values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_planes_are_not_modified(dtype: type) -> None:
    values = np.full((3, 5, 7), 2.0, np.float32)
    values.setflags(write=False)
    assert image_from_planes(values, np.dtype(dtype)).max() == (
        2 if dtype == np.float32 else np.iinfo(dtype).max
    )
