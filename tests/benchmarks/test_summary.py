from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxim_deploy.benchmarks.summary import spread, summary, throughput

TIMES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=50)


@given(TIMES)
def test_percentiles_mean_and_deviation_are_those_of_numpy(times: list[float]) -> None:
    found = summary(times)
    for percent in (50, 90, 95, 99):
        expected = np.percentile(times, percent)
        assert found[f"p{percent}_ms"] == pytest.approx(expected, rel=1e-6)
        assert type(found[f"p{percent}_ms"]) is float  # JSON takes no number of NumPy's
    assert found["mean_ms"] == pytest.approx(np.mean(times), rel=1e-6)
    deviation = np.std(times, ddof=1) if len(times) > 1 else 0
    assert found["sd_ms"] == pytest.approx(deviation, rel=1e-6, abs=1e-6)
    assert found["count"] == len(times)


@given(TIMES)
def test_the_spread_is_that_of_numpy(times: list[float]) -> None:
    low, middle, high = np.percentile(times, [25, 50, 75])
    assert spread(times) == pytest.approx((high - low) / middle, rel=1e-6, abs=1e-9)


def test_throughput() -> None:
    assert throughput(20.0, 500, 1000, batch=4) == {"images_per_s": 200, "megapixels_per_s": 100}
