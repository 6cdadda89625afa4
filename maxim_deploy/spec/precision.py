"""The table of precisions: one row each. All other code reads the rows.

A new precision needs a row here and tests. If its cast needs more than another element type, it
also needs code in `maxim_deploy.graph.precision.convert`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

TRACED_OPSET = 20
"""The opset of tracing: the first one with Gelu as one operator."""

DEPLOYMENT_FORMS = ("cpu", "gpu", "gpu-range")
"""Sets of exact rewrites: "cpu" saves time on a CPU, "gpu" saves memory traffic on a GPU, and
"gpu-range" suits engines with a range of sizes. `export.deployment.rewrites` lists them."""

AUTO, AUTO_RANGE = "auto", "auto-range"
FORM_CHOICES = (AUTO, AUTO_RANGE, *DEPLOYMENT_FORMS)
"""Choices of `--form`. "auto" takes each precision's own form. "auto-range" takes the form for
engines with a range of sizes."""

_FOR_RANGES = {"gpu": "gpu-range"}
"""For each form, the better one for an engine with a range of sizes."""


@dataclass(frozen=True)
class ErrorLimits:
    """Limits of the difference to full precision. `parity.thresholds` applies them.

    Attributes:
        max_error_levels: largest absolute error in 8-bit steps.
        residual_error: error relative to the network's residual; None for no limit.
        psnr: least PSNR in dB.
        seen: measured values, and the error that a fault causes.
    """

    max_error_levels: float
    residual_error: float | None
    psnr: float
    seen: str


@dataclass(frozen=True)
class Precision:
    """The type in which a graph stores and computes. Inputs and outputs keep their types.

    Attributes:
        name: name in commands, manifests and file names.
        type: name of the element type in ONNX, PyTorch, NumPy and decision tables. NumPy lacks
            bfloat16, so arrays use `ml_dtypes.bfloat16`, which `onnx` brings.
        onnx: its number in ONNX's `TensorProto.DataType`.
        tensorrt: its name in `tensorrt.DataType`.
        significand: bits of the significand, including the implicit first one.
        exponent: bits of the exponent.
        bytes: size of one element.
        opset: the first opset in which every operator of the network supports it.
        cpu_rank: rank among the precisions on a CPU, 0 for the best; None if a CPU does not run it.
        gpu_rank: the same for a GPU.
        exported: whether an export makes it by default.
        form: default form, one of `DEPLOYMENT_FORMS`.
        gate: least PSNR in dB that an export accepts, against the graph in full precision, on a
            photograph, with the output clipped and not rounded; infinite for full precision itself.
        limits: limits for comparing two stages of which this is the lower precision.
        point_error: allowed error of an inner tensor, relative to its root mean square, where
            rounding cannot be measured.
        benchmark_error: largest difference of values in [0, 1] at which two results count as those
            of the same network, so that their times are comparable.
        layer_norm_gain: dB gained by LayerNorm with float32 inputs and outputs (S-2, 256x256).
    """

    name: str
    type: str
    onnx: int
    tensorrt: str
    significand: int
    exponent: int
    bytes: int
    opset: int
    cpu_rank: int | None
    gpu_rank: int | None
    exported: bool
    form: str
    gate: float
    limits: ErrorLimits
    point_error: float
    benchmark_error: float
    layer_norm_gain: float

    def form_for(self, choice: str) -> str:
        """The form selected by one of `FORM_CHOICES`."""
        if choice == AUTO:
            return self.form
        return _FOR_RANGES.get(self.form, self.form) if choice == AUTO_RANGE else choice

    @property
    def largest_count(self) -> int:
        """The largest number up to which every whole number is representable."""
        return 1 << self.significand

    @property
    def half_step(self) -> float:
        """Largest rounding error of a value in 1/2..1: half the distance of its neighbours."""
        return 0.5 / self.largest_count


# `gate`: S-2 with the reference parameters has 69 dB in fp16 and 51 dB in bf16, the demo model 68
# and 50.
#
# `point_error`: four times what was seen at the worst point of S-2, 2.5e-6 in float32 and 3.4e-3 in
# float16.
#
# `benchmark_error`: the deployment graph is allowed 3e-5 elsewhere, and the mildest fault that we
# know costs 6e-5. In low precision the check looks for another network, not for rounding: on these
# pictures, which are noise, our float16 graph of the demo model differs by 9.4e-4, but PyTorch in
# float16 keeps no island in float32. bfloat16 has three bits less, so eight times as much.
# fmt: off
_ROWS = (
    Precision(
        "fp32", "float32", onnx=1, tensorrt="FLOAT", significand=24, exponent=8, bytes=4,
        opset=TRACED_OPSET, cpu_rank=0, gpu_rank=2, exported=True, form="cpu",
        gate=math.inf,
        limits=ErrorLimits(
            max_error_levels=1e-5 * 255, residual_error=1e-4, psnr=110,
            seen="correct results had at most 2.3e-6 of the range against stored outputs (S-3), "
                "131 dB (S-2), and a residual error of 9e-6 on a clean photograph (demo model); "
                "the smallest known fault, LayerNorm's epsilon, costs 5.7e-5",
        ),
        point_error=1e-5, benchmark_error=1e-4, layer_norm_gain=0.0,
    ),
    Precision(
        "fp16", "float16", onnx=10, tensorrt="HALF", significand=11, exponent=5, bytes=2,
        opset=TRACED_OPSET, cpu_rank=1, gpu_rank=0, exported=True, form="gpu",
        gate=60.0,
        limits=ErrorLimits(
            max_error_levels=2, residual_error=0.1, psnr=60,
            seen="stored in float16, at 256x256: 0.46 levels, 68.2 dB and a residual error of "
                "0.028 on a clean photograph, 0.59 levels and 66.5 dB on saturated noise (demo "
                "model), 0.47 levels and 68.8 dB (S-2); a missing antialias costs 25 levels",
        ),
        point_error=0.02, benchmark_error=2e-2, layer_norm_gain=0.06,
    ),
    # A CPU runs hardly any operator in bfloat16. Opset 22 is the first in which Conv,
    # ConvTranspose, AveragePool and GlobalAveragePool compute it.
    Precision(
        "bf16", "bfloat16", onnx=16, tensorrt="BF16", significand=8, exponent=8, bytes=2,
        opset=22, cpu_rank=None, gpu_rank=1, exported=False, form="gpu",
        gate=45.0,
        limits=ErrorLimits(
            max_error_levels=10, residual_error=0.5, psnr=45,
            seen="stored in bfloat16, at 256x256: 3.8 levels, 50.1 dB and a residual error of 0.22 "
            "on a clean photograph, 4.7 levels and 48.3 dB on saturated noise (demo model), 3.9 "
            "levels and 50.9 dB (S-2)",
        ),
        point_error=0.15, benchmark_error=1.6e-1, layer_norm_gain=-0.06,
    ),
)
# fmt: on

PRECISIONS = {row.name: row for row in _ROWS}
"""All precisions by name, from the highest to the lowest."""

FULL = _ROWS[0].name
"""The precision of tracing, and the reference for the others."""

LOW = {row.name: row for row in _ROWS[1:]}
"""The lower precisions by name. Graphs get them by casts."""

GPU_PRECISIONS, CPU_PRECISIONS = (
    tuple(name for _, name in sorted(ranked))
    for ranked in (
        [(row.gpu_rank, row.name) for row in _ROWS if row.gpu_rank is not None],
        [(row.cpu_rank, row.name) for row in _ROWS if row.cpu_rank is not None],
    )
)
"""The precisions of each kind of device, the best first."""

DEFAULT_PRECISIONS = tuple(row.name for row in _ROWS if row.exported)
"""The precisions that an export makes by default."""


def lower_of(names: Collection[str]) -> Precision:
    """The lowest of some precisions. It limits the accuracy of a result."""
    return PRECISIONS[max(names, key=tuple(PRECISIONS).index)]
