"""What `Restorer.submit` tells of a picture in the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunProgress:
    """How far a picture is in the network.

    Attributes:
        done: runs of the network that have ended: on tiles, one or several at a time, or on each
            orientation of a self-ensemble.
        total: runs that the picture takes. It changes, and `done` begins anew, if there was not
            enough memory and the picture is run in smaller tiles.
    """

    done: int
    total: int
