"""The progress that `Restorer.submit` reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunProgress:
    """Progress of a picture in the network.

    Attributes:
        done: finished runs of the network: on one or several tiles, or on an orientation of a
            self-ensemble.
        total: number of runs of the picture. If memory is too small, the picture starts again with
            smaller tiles: `total` then changes and `done` restarts.
    """

    done: int
    total: int
