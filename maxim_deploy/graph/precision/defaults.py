"""The default decision tables, and the measurements behind them.

Gains were measured in simulated precision against the float32 graph, for S-2 with the reference
parameters on a photograph of 256x256 pixels. `image` and `output-sum` together gain 0.6 dB in
float16 (68.5 to 69.1 dB) and 0.9 dB in bfloat16 (50.3 to 51.2 dB). The mean over positions shows no
gain there: its sum needs range and length, but simulated precision sums in float32. The last
convolution in float32 would gain 0.1 dB, which is not worth it.
"""

from __future__ import annotations

import onnx_ir as ir

from maxim_deploy.errors import check_known
from maxim_deploy.graph.precision.roles import norm_deviations
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.spec.precision import LOW, Precision

_PIXELS = 2176 * 3856
"""Positions of a padded 4K frame, rounded up: 8.4 million."""


def default_table(precision: str, graph: ir.Graph | None = None) -> PrecisionTable:
    """The default table of a low precision.

    Args:
        precision: of `LOW`.
        graph: the graph that the table is for; None for the CPU's form.

    Raises:
        UsageError: the precision is not a low one.
    """
    check_known("low precision", precision, LOW)
    row, low = LOW[precision], LOW[precision].type
    # Each number is the gain of float32 there, or shows that there is none.
    rounding = f"largest rounding error of a pixel in {low}"
    decisions: tuple[Decision, ...] = (
        Decision(
            "image",
            "float32",
            "three channels that come and stay as float32: the sum at the end adds the exact input",
            rounding,
            row.half_step,
        ),
        Decision(
            "output-sum",
            "float32",
            "input plus correction is the result: it must not be rounded once more",
            rounding,
            row.half_step,
        ),
        Decision(
            "spatial-mean",
            "float32",
            f"sums over all positions: a {low} running sum of ones stops at {row.largest_count}",
            f"relative error of a {low} running sum of {_PIXELS} ones",
            1 - row.largest_count / _PIXELS,
        ),
        Decision(
            "layer-norm",
            low,
            "stash_type 1 keeps mean and variance float32 inside the operator",
            "dB gained by float32 inputs and outputs as well (S-2, 256x256)",
            row.layer_norm_gain,
        ),
    )
    if graph is not None and norm_deviations(graph):
        decisions += (_deviation(row),)
    return PrecisionTable(low, decisions)


def _deviation(row: Precision) -> Decision:
    """The decision for norms made of several operators, in place of `stash_type`."""
    return Decision(
        "norm-deviation",
        "float32",
        "mean and variance of a row, which LayerNorm keeps float32 inside its operator as well",
        f"largest relative rounding error of a square in {row.type}",
        # Half a step between 1/2 and 1, relative to the smallest value there, is twice as much
        2 * row.half_step,
    )
