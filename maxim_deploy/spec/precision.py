"""The precisions: one row each, and everything else that must know them reads the row.

A new precision is a row here, what casts to it in `maxim_deploy.graph.precision.convert` if that
needs more than another element type, and its tests.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

TRACED_OPSET = 20
"""What a network is traced at: the first opset with Gelu as one operator."""

DEPLOYMENT_FORMS = ("cpu", "gpu", "gpu-range")
"""Which exact rewrites a graph is made with: those that save time on a CPU, those that save memory
traffic on a GPU, or of these the ones that suit engines for a range of sizes.
`export.deployment.rewrites` lists them."""

AUTO, AUTO_RANGE = "auto", "auto-range"
FORM_CHOICES = (AUTO, AUTO_RANGE, *DEPLOYMENT_FORMS)
"""What an export may be asked for. "auto" takes each precision's own form, "auto-range" the one
that suits engines for a range of sizes."""

_FOR_RANGES = {"gpu": "gpu-range"}
"""Which form serves an engine that takes a range of sizes better."""


@dataclass(frozen=True)
class ErrorLimits:
    """How far a result may be from the one in full precision; `parity.thresholds` judges by it.

    Attributes:
        max_error_levels: largest absolute error in 8-bit steps.
        residual_error: error as a share of what the network adds; None for no limit.
        psnr: least PSNR in dB.
        seen: what was measured, and what a fault costs.
    """

    max_error_levels: float
    residual_error: float | None
    psnr: float
    seen: str


@dataclass(frozen=True)
class Precision:
    """What a graph stores and computes in; inputs and outputs are not affected.

    Attributes:
        name: in commands, manifests and file names.
        type: the element type as ONNX, PyTorch and decision tables name it, and NumPy if it has it.
            NumPy has no bfloat16: arrays are of `ml_dtypes.bfloat16` there, which `onnx` brings.
        onnx: its number in ONNX's `TensorProto.DataType`.
        tensorrt: its name in `tensorrt.DataType`.
        significand: bits of the significand, the implicit first one included.
        exponent: bits of the exponent.
        bytes: of one element.
        opset: the first in which every operator of the network computes it.
        cpu_rank: place in the order in which a CPU prefers precisions, from 0; None if a CPU does
            not run it.
        gpu_rank: the same for a GPU.
        exported: whether an export makes it unless told otherwise.
        form: of `DEPLOYMENT_FORMS`, in which an export makes it unless told otherwise.
        gate: least PSNR in dB to the graph in full precision that an export accepts, on a
            photograph, output clipped and not rounded; infinite for full precision itself.
        limits: what two stages are held against, of which this is the lower precision.
        point_error: error at a tensor inside, as a share of its root mean square, that is allowed
            where rounding cannot be measured.
        benchmark_error: largest difference of values in [0, 1] at which two results count as
            those of one network, so that their times may be compared.
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
        """The form that one of `FORM_CHOICES` stands for."""
        if choice == AUTO:
            return self.form
        return _FOR_RANGES.get(self.form, self.form) if choice == AUTO_RANGE else choice

    @property
    def largest_count(self) -> int:
        """Where counting in steps of one ends: the next whole number is not representable."""
        return 1 << self.significand

    @property
    def half_step(self) -> float:
        """Largest rounding error of a value between 1/2 and 1: half its neighbours' distance."""
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
            seen="correct, at most: 2.3e-6 of the range against stored outputs (S-3), 131 dB "
            "(S-2), a residual error of 9e-6 on a clean photograph (demo model); the mildest fault "
            "that we know, LayerNorm's epsilon, costs 5.7e-5",
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
            "0.028 on a clean photograph, 0.59 levels and 66.5 dB on saturated noise (demo model), "
            "0.47 levels and 68.8 dB (S-2); an antialias forgotten costs 25 levels",
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
"""By name, from the highest to the lowest."""

FULL = _ROWS[0].name
"""The precision that networks are traced in and others are measured against."""

LOW = {row.name: row for row in _ROWS[1:]}
"""The others by name: a graph has them by casts."""

GPU_PRECISIONS, CPU_PRECISIONS = (
    tuple(name for _, name in sorted(ranked))
    for ranked in (
        [(row.gpu_rank, row.name) for row in _ROWS if row.gpu_rank is not None],
        [(row.cpu_rank, row.name) for row in _ROWS if row.cpu_rank is not None],
    )
)
"""Those that each kind of device runs, the best first."""

DEFAULT_PRECISIONS = tuple(row.name for row in _ROWS if row.exported)
"""What an export makes unless told otherwise."""


def lower_of(names: Collection[str]) -> Precision:
    """The lowest of some precisions: what was stored in it limits a result."""
    return PRECISIONS[max(names, key=tuple(PRECISIONS).index)]
