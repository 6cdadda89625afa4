"""The options of a call of a `Restorer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from maxim_deploy.imaging import Rounding
from maxim_deploy.runtime.progress import RunProgress
from maxim_deploy.runtime.turns import Stop


@dataclass(frozen=True)
class Call:
    """Options of a call.

    Attributes:
        rounding: rounding of integers.
        self_ensemble: whether images run in eight orientations.
        stop: ends it early.
        progress: called after each run, in its thread. Its exceptions end the call.
        defers: whether to raise `Deferred` rather than wait for another picture of many runs.
        shares: whether other calls begin with this one, and share the threads of a CPU with it.
    """

    rounding: Rounding = "nearest"
    self_ensemble: bool = False
    stop: Stop = field(default_factory=Stop)
    progress: Callable[[RunProgress], object] | None = None
    defers: bool = False
    shares: bool = False
