"""Metrics against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maxim_deploy.parity import psnr


def test_psnr_by_hand() -> None:
    target = np.zeros((2, 2), np.uint8)
    image = np.array([[0, 0], [0, 10]], np.uint8)  # mean square 25
    assert psnr(image, target, peak=255) == pytest.approx(10 * math.log10(255**2 / 25))
    assert psnr(target, image, peak=255) == psnr(image, target, peak=255)  # no unsigned wrap-around


def test_psnr_of_equal_and_of_nan() -> None:
    assert psnr([1.0], [1.0], peak=1) == math.inf
    assert math.isnan(psnr([math.nan], [1.0], peak=1))


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_psnr_of_nothing(a, b) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        psnr(a, b, peak=1)
