"""Metrics against their definitions, and against other people's code to 1e-6."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from maxim_deploy.parity import luma, psnr, ssim


def pictures(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and the same with a little more of it."""
    rng = np.random.default_rng(3)
    target = rng.integers(0, 256, shape, np.uint8)
    image = np.clip(target + rng.normal(0, 9, shape), 0, 255).astype(np.uint8)
    return image, target


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


def test_psnr_against_scikit_image() -> None:
    image, target = pictures(33, 47, 3)
    theirs = peak_signal_noise_ratio(target, image, data_range=255)
    assert psnr(image, target, peak=255) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("shape", [(11, 11), (40, 23), (64, 50, 3)])
def test_ssim_against_scikit_image(shape: tuple[int, ...]) -> None:
    image, target = pictures(*shape)
    theirs = structural_similarity(
        image,
        target,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert ssim(image, target, peak=255) == pytest.approx(theirs, abs=1e-6)
    assert ssim(image, target, peak=255) < 0.999
    unit = ssim(image / 255, target / 255, peak=1)
    assert unit == pytest.approx(theirs, abs=1e-6)


def test_ssim_of_equal_of_nan_and_of_too_small() -> None:
    image, _ = pictures(16, 16, 3)
    assert ssim(image, image, peak=255) == pytest.approx(1)
    assert math.isnan(ssim(np.full((16, 16), math.nan), image[..., 0], peak=255))
    with pytest.raises(ValueError, match=r"sides from 11, not \(10, 16, 3\)"):
        ssim(image[:10], image[:10], peak=255)


def test_luma_against_scikit_image() -> None:
    image, _ = pictures(80, 90, 3)
    theirs = rgb2ycbcr(image)[..., 0]
    assert np.abs(luma(image) - theirs).max() <= 0.5 + 1e-6
    assert np.array_equal(luma(image), np.floor(theirs + 0.5))


@pytest.mark.parametrize(("grey", "y"), [(0, 16), (255, 235), (128, 126)])
def test_luma_of_grey(grey: int, y: int) -> None:
    assert luma(np.full((1, 1, 3), grey, np.uint8)) == y  # 16 + 219 / 255 * grey, rounded
