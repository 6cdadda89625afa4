"""What files carry beside their pixels, and what becomes of it; the table of the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["kept", "warned", "refused"]


@dataclass(frozen=True)
class Carried:
    """One thing that a kind of file can carry.

    Attributes:
        kind: of file and direction, such as "from PNG" or "to JPEG".
        thing: what it carries.
        outcome: "kept", "warned" (left out, and the log names it) or "refused" (an error names it).
        note: what limits the outcome, if anything does.
    """

    kind: str
    thing: str
    outcome: Outcome
    note: str = ""


IMAGES: tuple[Carried, ...] = ()
