"""Named limits for comparisons, each with the measurement that justifies it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from maxim_deploy.errors import check_known
from maxim_deploy.parity.comparison import LEVELS, Comparison
from maxim_deploy.parity.metrics import psnr_of
from maxim_deploy.spec.precision import FULL, PRECISIONS, lower_of


@dataclass(frozen=True)
class Threshold:
    """Limits of a comparison. NaN never passes.

    Attributes:
        name: of the threshold.
        max_error_levels: largest absolute error in 8-bit steps.
        residual_error: error as a share of what the network adds; None for no limit.
        psnr: least PSNR in dB.
        seen: measured values, and the error that a fault causes.
    """

    name: str
    max_error_levels: float
    residual_error: float | None
    psnr: float
    seen: str

    def faults(self, found: Comparison) -> list[str]:
        """The exceeded limits, each with both numbers; empty if the comparison passes."""
        pairs = [("max error, levels", found.max_error_levels, self.max_error_levels)]
        if self.residual_error is not None and found.residual_error is not None:
            pairs.append(("residual error", found.residual_error, self.residual_error))
        faults = [
            f"{what} {value:.4g}, allowed {limit:.4g}"
            for what, value, limit in pairs
            if not value <= limit  # also true for NaN
        ]
        # Negated, as above: a comparison with NaN is False, and would pass as "below the limit".
        if not found.psnr >= self.psnr:
            faults.append(f"PSNR {found.psnr:.1f} dB, at least {self.psnr:.1f}")
        return faults

    def in_8_bits(self, roundings: int) -> Threshold:
        """These limits for results of which one or both are rounded to 8 bits.

        A rounding moves a value by up to half a step; in a flat picture it moves all of them so.
        """
        moved = roundings / 2
        # Amplitudes add up here, not powers: a flat picture's roundings all go one way.
        root_mean_square = LEVELS * 10 ** (-self.psnr / 20) + moved
        return replace(
            self,
            name=f"{self.name} in 8 bits",
            max_error_levels=self.max_error_levels + moved,
            residual_error=None,
            psnr=psnr_of(root_mean_square**2, peak=LEVELS),
        )


_TABLE = (
    *(Threshold(name, **vars(row.limits)) for name, row in PRECISIONS.items()),
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
    """The threshold of two stages.

    Args:
        precisions: of both; the lower one decides.
        in_8_bits: how many of the two results are whole 8-bit steps.
        alike: whether two that are were rounded in the same way, and should have the same bytes.
    """
    lower = lower_of(precisions).name
    if lower == FULL and in_8_bits == 2 and alike:
        return THRESHOLDS["bytes"]
    threshold = THRESHOLDS[lower]
    return threshold.in_8_bits(in_8_bits) if in_8_bits else threshold
