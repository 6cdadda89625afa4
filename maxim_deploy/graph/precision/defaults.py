"""The tables that an export starts from, and the numbers behind them.

What islands gain was measured on float32 twins (`twin.py`), against the float32 graph, for S-2 with
the reference parameters on a photograph of 256x256 pixels: `image` and `output-sum` together bring
0.6 dB in float16 (68.5 to 69.1 dB) and 0.9 dB in bfloat16 (50.3 to 51.2 dB). The mean over
positions shows nothing there: it needs the range and the length of its sum, and twins sum in
float32. The last convolution in float32 as well would bring 0.1 dB: not worth it.
"""

from __future__ import annotations

from maxim_deploy.errors import check_known
from maxim_deploy.graph.precision.table import Decision, PrecisionTable

TYPES = {"fp16": "float16", "bf16": "bfloat16"}

_HALF_STEP = {"float16": 2.0**-12, "bfloat16": 2.0**-9}
"""Largest rounding error of a value between 1/2 and 1: half of the distance of its neighbours."""

_PIXELS = 2176 * 3856
"""A padded 4K frame and a little more: 8.4 million."""

_LAST_COUNT = {"float16": 2048, "bfloat16": 256}
"""Where counting in steps of one ends: the next whole number is not representable."""

_LAYER_NORM_GAIN = {"float16": 0.06, "bfloat16": -0.06}


def default_table(precision: str) -> PrecisionTable:
    """The table for "fp16" or "bf16".

    Raises:
        UsageError: another precision.
    """
    check_known("low precision", precision, TYPES)
    low = TYPES[precision]
    rounding = f"largest rounding error of a pixel in {low}"
    decisions = (
        Decision(
            "image",
            "float32",
            "three channels that come and stay as float32: the sum at the end adds the exact input",
            rounding,
            _HALF_STEP[low],
        ),
        Decision(
            "output-sum",
            "float32",
            "input plus correction is the result: it must not be rounded once more",
            rounding,
            _HALF_STEP[low],
        ),
        Decision(
            "spatial-mean",
            "float32",
            f"sums over all positions: a {low} running sum of ones stops at {_LAST_COUNT[low]}",
            f"relative error of a {low} running sum of {_PIXELS} ones",
            1 - _LAST_COUNT[low] / _PIXELS,
        ),
        Decision(
            "layer-norm",
            low,
            "stash_type 1 keeps mean and variance float32 inside the operator",
            "dB gained by float32 inputs and outputs as well (S-2, 256x256)",
            _LAYER_NORM_GAIN[low],
        ),
    )
    return PrecisionTable(low, decisions)
