"""The hyper-parameters of a MAXIM.

Source: MAXIM: Multi-Axis MLP for Image Processing, CVPR 2022, arXiv 2201.02973.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from maxim_deploy.errors import UsageError, unknown

DEPTH = 3
"""Levels of the U-Net; level `i` has `features * 2**i` channels at 1/2**i of the resolution."""

BLOCK_SIZES = (16, 16, 8)
"""Side of blocks, and of the grid, at levels 0, 1 and 2. The bottleneck uses the last one."""

MULTIPLE_OF: Final[int] = 2**DEPTH * BLOCK_SIZES[-1]
"""Both sides of an input are multiples of this: three halvings, then an 8 x 8 partition."""

REDUCTION = 4
"""Channel attention squeezes `C` channels to `C / 4`."""


@dataclass(frozen=True)
class Architecture:
    """One size of MAXIM.

    Attributes:
        features: channels at full resolution; a multiple of 4 (channel attention divides by 4).
        stages: U-Nets in a row.
        groups: multi-axis blocks per encoder, decoder and bottleneck block.
        bottleneck_blocks: blocks at 1/8 of the resolution.
    """

    features: int
    stages: int
    groups: int = 2
    bottleneck_blocks: int = 2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if self.features % REDUCTION:
            raise UsageError(f"features must be a multiple of {REDUCTION}, not {self.features}")

    @property
    def variant(self) -> str | None:
        """The paper's name, such as "S-2", or None for any other size."""
        return next((name for name, known in VARIANTS.items() if known == self), None)

    def channels(self, level: int) -> int:
        """Channels of the feature maps at `level`."""
        return self.features << level

    def __str__(self) -> str:
        sizes = (
            f"features {self.features}, stages {self.stages}, groups {self.groups}, "
            f"bottleneck blocks {self.bottleneck_blocks}"
        )
        return f"{self.variant} ({sizes})" if self.variant else sizes

    def to_json(self) -> dict[str, int]:
        """The fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Architecture:
        """The inverse of `to_json`. Raises `KeyError` where a field is missing."""
        names = ("features", "stages", "groups", "bottleneck_blocks")
        return cls(**{name: int(fields[name]) for name in names})


VARIANTS = {
    f"{size}-{stages}": Architecture(features=features, stages=stages)
    for size, features in (("S", 32), ("M", 64))
    for stages in (1, 2, 3)
}
"""The paper's variants by name: S-1 to S-3 and M-1 to M-3."""


def architecture_of(variant: str) -> Architecture:
    """The architecture of a variant by name.

    Raises:
        UsageError: there is no such variant.
    """
    name = variant.upper()
    if name not in VARIANTS:
        raise UsageError(unknown("variant", variant, VARIANTS))
    return VARIANTS[name]
