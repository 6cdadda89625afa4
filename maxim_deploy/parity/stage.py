"""The interface of stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from maxim_deploy.parity.comparison import Pixels
from maxim_deploy.parity.pictures import Sample


class Stage(ABC):
    """A source of restored pictures.

    Attributes:
        name: as on the command line.
        precision: inside.
        is_8bit: whether results are whole 8-bit steps.
        facts: where it comes from and what runs it, ready for JSON.
    """

    name: str
    precision: str
    is_8bit: bool
    facts: dict[str, Any]

    @abstractmethod
    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """The restored picture, not clipped unless the stage clips; `self_ensemble`: the mean.

        Raises:
            ImageError: it has none of this name.
            UsageError: it cannot do so.
        """

    def close(self) -> None:  # noqa: B027  # most stages hold nothing
        """Free all resources."""
