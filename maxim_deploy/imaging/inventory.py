"""What files carry beside their pixels, and what becomes of it; the table of the documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from maxim_deploy.imaging.picture import Picture

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


THINGS: dict[str, Callable[[Picture], Any]] = {
    "ICC profile": lambda picture: picture.icc_profile,
    "EXIF": lambda picture: picture.exif,
    "XMP": lambda picture: picture.metadata.xmp,
    "extended XMP": lambda picture: picture.metadata.xmp_extension,
    "IPTC and Photoshop resources": lambda picture: picture.metadata.photoshop,
    "resolution": lambda picture: picture.metadata.resolution,
    "comments": lambda picture: picture.metadata.comments,
    "text chunks": lambda picture: picture.metadata.text,
    "colour chunks": lambda picture: picture.metadata.colour,
    "other chunks": lambda picture: picture.metadata.others,
}
"""What a picture may carry, and where it has it."""

_EVERYWHERE = frozenset({"ICC profile", "EXIF", "XMP"})
_PRINTED = _EVERYWHERE | {"IPTC and Photoshop resources", "resolution"}

HOLDS: dict[str, frozenset[str]] = {
    "PNG": frozenset(THINGS) - {"extended XMP"},
    "JPEG": _PRINTED | {"extended XMP", "comments"},
    "TIFF": _PRINTED,
    "WebP": _EVERYWHERE,
    "BMP": frozenset({"resolution"}),
}
"""Which of the things each format holds that is written. The writer warns of the others."""

_LIMITS = {
    ("JPEG", "EXIF"): "up to 64 KiB, else warned",
    ("JPEG", "XMP"): "up to 64 KiB, else warned",
    ("JPEG", "ICC profile"): "up to 16 MB, else warned",
    ("JPEG", "comments"): "up to 64 KiB each, else warned",
    ("JPEG", "resolution"): "rounded to whole pixels per inch or centimetre",
    ("PNG", "resolution"): "rounded to whole pixels per metre",
    ("WebP", "ICC profile"): "of grey pictures warned",
}

_ALPHA = frozenset({"PNG", "TIFF", "WebP"})
_16_BITS = frozenset({"PNG", "TIFF"})


def _written() -> list[Carried]:
    rows = []
    for name, held in HOLDS.items():
        kind = f"to {name}"
        rows += [
            Carried(kind, "transparency", "kept" if name in _ALPHA else "refused"),
            Carried(kind, "16 bits per channel", "kept" if name in _16_BITS else "refused"),
        ]
        for thing in THINGS:
            outcome: Outcome = "kept" if thing in held else "warned"
            rows.append(Carried(kind, thing, outcome, _LIMITS.get((name, thing), "")))
    return rows
