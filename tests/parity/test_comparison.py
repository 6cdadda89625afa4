"""What is measured between two pictures, and what the thresholds make of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from maxim_deploy.errors import ImageError, UsageError
from maxim_deploy.parity.comparison import compare, error_map
from maxim_deploy.parity.thresholds import THRESHOLDS, threshold_for, threshold_named

LEVEL = np.float32(1 / 255)


@pytest.fixture
def expected() -> np.ndarray:
    return np.random.default_rng(0).random((20, 50, 3), np.float32)


def test_by_hand(expected) -> None:
    source = expected - np.float32(0.1)
    found = expected.copy()
    found[3, 7, 2] += 10 * LEVEL
    found[4, 7, 2] -= 4 * LEVEL
    seen = compare(found, expected, source)
    assert seen.max_error_levels == pytest.approx(10, rel=1e-5)
    assert seen.mean_error_levels == pytest.approx(14 / 3000, rel=1e-5)
    mean_square = (100 + 16) / 3000 / 255**2
    assert seen.residual_error == pytest.approx(math.sqrt(mean_square) / 0.1, rel=1e-4)
    assert seen.psnr == pytest.approx(-10 * math.log10(mean_square), rel=1e-6)
    assert seen.p999_error_levels == 0  # of 3000 values two differ
    assert (seen.worst, seen.values, seen.not_finite) == ((3, 7, 2), 3000, 0)
    assert seen.equal == 1 - 2 / 3000
    theirs = structural_similarity(
        found, expected, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1, channel_axis=2,
    )  # fmt: skip
    assert seen.ssim == pytest.approx(theirs, abs=1e-6)
    assert compare(found, expected).residual_error is None


def test_the_percentile(expected) -> None:
    found = expected.copy()
    found.reshape(-1)[:30] += np.linspace(1, 30, 30, dtype=np.float32) * LEVEL
    error = np.abs(found.astype(np.float64) - expected) * 255
    assert compare(found, expected).p999_error_levels == pytest.approx(np.percentile(error, 99.9))


def test_equal_pictures_and_a_network_that_adds_nothing(expected) -> None:
    seen = compare(expected, expected, expected)
    assert (seen.max_error_levels, seen.residual_error, seen.equal) == (0, 0, 1)
    assert seen.psnr == math.inf and seen.to_json()["psnr"] is None
    assert compare(expected + LEVEL, expected, expected).residual_error == math.inf
    assert compare(expected[:10], expected[:10]).ssim is None  # smaller than the window


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("both", [False, True])
def test_what_is_not_finite_passes_no_threshold(expected, value: float, both: bool) -> None:
    found = expected.copy()
    found[5, 6, 1] = value
    if both:
        expected[5, 6, 1] = value
    seen = compare(found, expected, expected)
    assert (seen.worst, seen.not_finite) == ((5, 6, 1), 1)
    for threshold in THRESHOLDS.values():
        assert len(threshold.faults(seen)) >= 2
        assert threshold.in_8_bits(1).faults(seen)
    json.loads(json.dumps(seen.to_json()), parse_constant=pytest.fail)
    assert (error_map(found, expected, 1)[5, 6] == (255, 0, 0)).all()


def test_nothing_compared_is_an_error(expected) -> None:
    with pytest.raises(ImageError, match="without a pixel"):
        compare(expected[:0], expected[:0])
    with pytest.raises(ImageError, match="20x50x3 and 19x50x3 cannot be compared"):
        compare(expected, expected[1:])
    with pytest.raises(ImageError, match="of 20x50x3 cannot have an input of 20x49x3"):
        compare(expected, expected, expected[:, 1:])


def test_error_map(expected) -> None:
    found = expected.copy()
    found[0, 0, 0] += 2 * LEVEL
    found[0, 1, 1] -= LEVEL
    picture = error_map(found, expected, 2)
    assert picture[0, 0].tolist() == [255, 0, 0] and abs(int(picture[0, 1, 1]) - 128) <= 1
    assert picture[1:].max() == 0 and picture.dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "step", "passes"),
    [
        ("fp32", 7e-4, True), ("fp32", 9e-4, False),  # 111 dB and 109 dB
        ("fp16", 0.2, True), ("fp16", 0.4, False),  # 62 dB and 56 dB
        ("bf16", 1.2, True), ("bf16", 2, False),
    ],
)  # fmt: skip
def test_limits(expected, name: str, step: float, passes: bool) -> None:
    """An error of this many levels everywhere."""
    seen = compare(expected + np.float32(step) * LEVEL, expected, expected - np.float32(0.3))
    assert (THRESHOLDS[name].faults(seen) == []) is passes


def test_each_limit_counts(expected) -> None:
    seen = compare(expected, expected, expected)
    fp16 = THRESHOLDS["fp16"]
    assert fp16.faults(seen) == []
    assert fp16.faults(replace(seen, max_error_levels=2.5)) == ["max error, levels 2.5, allowed 2"]
    assert fp16.faults(replace(seen, residual_error=0.5)) == ["residual error 0.5, allowed 0.1"]
    assert fp16.faults(replace(seen, psnr=59.0)) == ["PSNR 59.0 dB, at least 60.0"]


def test_which_threshold() -> None:
    assert threshold_for(("fp32", "fp16"), 0) is THRESHOLDS["fp16"]
    assert threshold_for(("bf16", "fp16"), 0) is THRESHOLDS["bf16"]
    assert threshold_for(("fp32", "fp32"), 2) is THRESHOLDS["bytes"]
    assert threshold_for(("fp32", "fp32"), 2, alike=False) == THRESHOLDS["fp32"].in_8_bits(2)
    one, two = (threshold_for(("fp32", "fp16"), count) for count in (1, 2))
    assert one.name == "fp16 in 8 bits" and (one.max_error_levels, two.max_error_levels) == (2.5, 3)
    assert all(threshold.seen for threshold in THRESHOLDS.values())
    with pytest.raises(UsageError, match=r"unknown threshold 'fp15' \(did you mean 'fp1"):
        threshold_named("fp15")


def test_rounding_never_fails_a_threshold_in_8_bits() -> None:
    """The worst there is: a flat picture half a level off everywhere."""
    flat = np.full((16, 16, 3), 0.5 * LEVEL, np.float32)
    seen = compare(np.zeros_like(flat), flat)
    assert THRESHOLDS["fp32"].in_8_bits(1).faults(seen) == []
    assert THRESHOLDS["fp32"].in_8_bits(1).faults(compare(np.zeros_like(flat), flat * 1.1))
