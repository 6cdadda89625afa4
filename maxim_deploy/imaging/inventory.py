"""What files carry beside their pixels, and what happens to it.

The documentation has this table.
"""

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
        kind: format and direction, such as "from PNG" or "to JPEG".
        thing: its content.
        outcome: "kept", "warned" (left out, and the log names it) or "refused" (an error names it).
        note: a restriction of the outcome, if any.
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
"""Contents of a picture, and the fields that hold them."""

_EVERYWHERE = frozenset({"ICC profile", "EXIF", "XMP"})
_PRINTED = _EVERYWHERE | {"IPTC and Photoshop resources", "resolution"}

HOLDS: dict[str, frozenset[str]] = {
    "PNG": frozenset(THINGS) - {"extended XMP"},
    "JPEG": _PRINTED | {"extended XMP", "comments"},
    "TIFF": _PRINTED,
    "WebP": _EVERYWHERE,
    "BMP": frozenset({"resolution"}),
}
"""Contents that each written format can hold. The writer warns of all others."""

_LIMITS = {
    ("JPEG", "EXIF"): "up to 64 KiB, else warned",
    ("JPEG", "XMP"): "up to 64 KiB, else warned",
    ("JPEG", "ICC profile"): "up to 16 MB, else warned",
    ("JPEG", "comments"): "up to 64 KiB each, else warned",
    ("JPEG", "resolution"): "rounded to whole pixels per inch or centimetre",
    ("PNG", "resolution"): "rounded to whole pixels per metre",
    ("WebP", "ICC profile"): "of grey pictures warned",
}

WITH_ALPHA = ("PNG", "WebP", "TIFF")
WITH_16_BITS = ("PNG", "TIFF")
"""Written formats with 16 bits. They are also read with 16 bits."""

# Contents of each read format: kept, warned, refused.
_READ: dict[str, tuple[str, str, str]] = {
    "PNG": (
        "transparency, 16 bits per channel, ICC profile, EXIF, XMP, IPTC and Photoshop resources, "
        "resolution, text chunks, colour chunks, other chunks",
        "chunks that depend on the pixels, data behind the picture, damaged chunks, "
        "missing end marker",
        "further frames, unknown critical chunks",
    ),
    "JPEG": (
        "ICC profile, EXIF, XMP, extended XMP, IPTC and Photoshop resources, resolution, comments",
        "thumbnail, gain maps and further pictures, data behind the picture, other segments, "
        "broken profile of CMYK, missing end marker",
        "12 bits per channel",
    ),
    "TIFF": (
        "transparency, 16 bits per channel, ICC profile, EXIF, XMP, IPTC and Photoshop resources, "
        "resolution",
        "extra samples, reduced pages and masks, Photoshop's layers",
        "further pages, floating-point samples, 32 bits per channel, raw photographs",
    ),
    "WebP": ("transparency, ICC profile, EXIF, XMP", "", "further frames"),
    "AVIF": (
        "transparency, ICC profile, EXIF, XMP, colour chunks",
        "gain maps and further pictures",
        "further frames, 10 bits per channel",
    ),
    "GIF": ("transparency, XMP, comments", "ICC profile", "further frames"),
    "BMP": ("ICC profile, resolution", "", ""),
    "PNM": ("comments", "", "16 bits per channel"),
}

_READ_NOTES = {
    ("PNG", "16 bits per channel"): "with the extra hdr",
    ("TIFF", "16 bits per channel"): "with the extra hdr",
    ("PNG", "other chunks"): "that are safe to copy",
    ("PNG", "ICC profile"): "up to 64 MiB, else warned",
    ("JPEG", "thumbnail"): "in the result, and in the log with -v",
    ("AVIF", "colour chunks"): "its colour description, as cICP",
}


def _rows_of_reading() -> list[Carried]:
    outcomes: tuple[Outcome, ...] = ("kept", "warned", "refused")
    return [
        Carried(f"from {name}", thing, outcome, _READ_NOTES.get((name, thing), ""))
        for name, lists in _READ.items()
        for outcome, things in zip(outcomes, lists, strict=True)
        for thing in things.split(", ")
        if thing
    ]


def _rows_of_writing() -> list[Carried]:
    rows = []
    for name, held in HOLDS.items():
        outcomes: dict[str, Outcome] = {
            "transparency": "kept" if name in WITH_ALPHA else "refused",
            "16 bits per channel": "kept" if name in WITH_16_BITS else "refused",
            **{thing: "kept" if thing in held else "warned" for thing in THINGS},
            "mode and owner of a file that is replaced": "kept",
        }
        rows += [
            Carried(f"to {name}", thing, outcome, _LIMITS.get((name, thing), ""))
            for thing, outcome in outcomes.items()
        ]
    return rows


IMAGES = (*_rows_of_reading(), *_rows_of_writing())


def table(rows: tuple[Carried, ...]) -> str:
    """The rows as a table in Markdown: a line for each kind, with what is kept, warned, refused."""
    lines = ["| | kept | warned | refused |", "|---|---|---|---|"]
    for kind in dict.fromkeys(row.kind for row in rows):
        cells = [
            "; ".join(
                f"{row.thing} ({row.note})" if row.note else row.thing
                for row in rows
                if (row.kind, row.outcome) == (kind, outcome)
            )
            for outcome in ("kept", "warned", "refused")
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)
