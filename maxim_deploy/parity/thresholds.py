"""How far apart two stages may be: named limits, each with the measurement that justified it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from maxim_deploy.errors import check_known
from maxim_deploy.parity.comparison import LEVELS, Comparison
from maxim_deploy.parity.metrics import psnr_of


@dataclass(frozen=True)
class Threshold:
    """Limits that a comparison passes or does not; NaN never does.

    Attributes:
        name: of the threshold.
        max_error_levels: largest absolute error in 8-bit steps.
        residual_error: error as a share of what the network adds; None for no limit.
        psnr: least PSNR in dB.
        seen: what was measured, and what a fault costs.
    """

    name: str
    max_error_levels: float
    residual_error: float | None
    psnr: float
    seen: str

    def faults(self, found: Comparison) -> list[str]:
        """Which limits the comparison exceeds, each with both numbers; empty if it passes."""
        pairs = [("max error, levels", found.max_error_levels, self.max_error_levels)]
        if self.residual_error is not None and found.residual_error is not None:
            pairs.append(("residual error", found.residual_error, self.residual_error))
        faults = [
            f"{what} {value:.4g}, allowed {limit:.4g}"
            for what, value, limit in pairs
            if not value <= limit  # also true for NaN
        ]
        if not found.psnr >= self.psnr:
            faults.append(f"PSNR {found.psnr:.1f} dB, at least {self.psnr:.1f}")
        return faults

    def in_8_bits(self, roundings: int) -> Threshold:
        """These limits for results of which one or both are rounded to 8 bits.

        A rounding moves a value by up to half a step; in a flat picture it moves all of them so.
        """
        moved = roundings / 2
        root_mean_square = LEVELS * 10 ** (-self.psnr / 20) + moved
        return replace(
            self,
            name=f"{self.name} in 8 bits",
            max_error_levels=self.max_error_levels + moved,
            residual_error=None,
            psnr=psnr_of(root_mean_square**2, peak=LEVELS),
        )


_TABLE = (
    Threshold(
        "fp32",
        # 1e-5 of the range
        max_error_levels=1e-5 * LEVELS,
        residual_error=1e-4,
        psnr=110,
        seen="correct, at most: 2.3e-6 of the range against stored outputs (S-3), 131 dB (S-2), a "
        "residual error of 9e-6 on a clean photograph (demo model); the mildest fault that we "
        "know, LayerNorm's epsilon, costs 5.7e-5",
    ),
    Threshold(
        "fp16",
        max_error_levels=2,
        residual_error=0.1,
        psnr=60,
        seen="stored in float16, at 256x256: 0.46 levels, 68.2 dB and a residual error of 0.028 on "
        "a clean photograph, 0.59 levels and 66.5 dB on saturated noise (demo model), 0.47 levels "
        "and 68.8 dB (S-2); an antialias forgotten costs 25 levels",
    ),
    Threshold(
        "bf16",
        max_error_levels=10,
        residual_error=0.5,
        psnr=45,
        seen="stored in bfloat16, at 256x256: 3.8 levels, 50.1 dB and a residual error of 0.22 on "
        "a clean photograph, 4.7 levels and 48.3 dB on saturated noise (demo model), 3.9 levels "
        "and 50.9 dB (S-2)",
    ),
    Threshold(
        "bytes",
        max_error_levels=1.001,  # one, and how levels are rounded as float32
        residual_error=None,
        psnr=75,
        seen="rounded alike, float32 errors move one value in ten thousand across a border, by one "
        "level: 88 dB; rounding to nearest where the other truncates moves half of them: 51 dB",
    ),
)

THRESHOLDS = {threshold.name: threshold for threshold in _TABLE}
"""The thresholds by name."""


def threshold_named(name: str) -> Threshold:
    """The threshold of a name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    check_known("threshold", name, THRESHOLDS)
    return THRESHOLDS[name]


def threshold_for(precisions: tuple[str, str], in_8_bits: int, *, alike: bool = True) -> Threshold:
    """What two stages are held against.

    Args:
        precisions: of both; the lower one decides.
        in_8_bits: how many of the two results are whole 8-bit steps.
        alike: whether two that are were rounded in the same way, and should have the same bytes.
    """
    lower = max(precisions, key=tuple(THRESHOLDS).index)
    if lower == "fp32" and in_8_bits == 2 and alike:
        return THRESHOLDS["bytes"]
    threshold = THRESHOLDS[lower]
    return threshold.in_8_bits(in_8_bits) if in_8_bits else threshold
