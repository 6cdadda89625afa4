"""Answers to a user's first questions: how long a photo takes, and which precision to use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.report.panels import (
    BRACKETS,
    Badge,
    Claim,
    Panel,
    Table,
    is_ours,
    label_of,
    p50_ms,
    size_words,
)
from maxim_deploy.benchmarks.timing import ratio
from maxim_deploy.runtime.registry import backend_label
from maxim_deploy.spec.precision import FULL

PHOTOS = (2, 12, 24)
"""Megapixels: a video frame of 1920x1080, a phone, a camera."""


class Answers(NamedTuple):
    """Answers from one panel: times of photos, the recommendation, and the precisions compared."""

    durations: Table
    advice: list[str]
    precisions: Table | None


def answers(panel: Panel, parity: Sequence[Mapping[str, Any]]) -> Answers | None:
    """Return both answers, or None if no backend of this package was timed."""
    largest = _largest(panel)
    if not largest:
        return None
    advice, rows = [], []
    for runner in dict.fromkeys(record.subject for record in largest):
        sized = [record for record in largest if record.subject == runner]
        size = max((r.size for r in sized), key=lambda size: size[0] * size[1])
        same = [record for record in sized if record.size == size]
        rows += [_precision_row(record, same, parity) for record in same]
        advice.append(_advice(same, parity))
    heads = ("Subject", "speed, of float32", "verdict", "least PSNR, dB", "parity", "at")
    table = Table(f"Which precision, {panel.title}", heads, rows, words=6, stacks=True)
    return Answers(_durations(panel, largest), advice, table if len(rows) > 1 else None)


def _largest(panel: Panel) -> list[Record]:
    """Return the record of the largest single image per backend and precision."""
    ours = [record for record in panel.measured if is_ours(record) and record.batch == 1]
    ours.sort(key=lambda record: record.size[0] * record.size[1])
    found = {(record.subject, record.precision): record for record in ours}
    return sorted(found.values(), key=_ms_per_megapixel)


def _durations(panel: Panel, records: Sequence[Record]) -> Table:
    heads = ("Subject", *(f"{photo} megapixels" for photo in PHOTOS), "measured at")
    rows = [
        (
            label_of(record),
            *(_seconds(_ms_per_megapixel(record) * photo / 1e3) for photo in PHOTOS),
            f"{size_words(record.size)}, {BRACKETS[_bracket(record)]}",
        )
        for record in records
    ]
    return Table(f"How long for my photo, {panel.title}", heads, rows, stacks=True)


def _precision_row(
    record: Record, same: Sequence[Record], parity: Sequence[Mapping[str, Any]]
) -> tuple[object, ...]:
    claim = _against_full(record, same)
    psnr, passed = _measured_parity(record, parity)
    return (
        label_of(record),
        str(claim.speed) if claim else None,
        Badge(claim.verdict) if claim else None,
        None if psnr is None else f"{psnr:.1f}",
        None if passed is None else Badge("passed" if passed else "failed"),
        size_words(record.size),
    )


def _advice(same: Sequence[Record], parity: Sequence[Mapping[str, Any]]) -> str:
    """Recommend the fastest precision that passes parity; float32 if none is clearly faster."""
    backend = backend_label(same[0].subject)
    if len(same) == 1:
        return f"{backend}: take {_precision(same[0])}, the only precision that was measured."
    kept = [record for record in same if _measured_parity(record, parity)[1] is not False]
    if not kept:
        return f"{backend}: every precision is outside its parity threshold; take none of them."
    full = next((record for record in kept if record.precision == FULL), None)
    best = min(kept, key=_ms_per_megapixel)
    claim = _against_full(best, kept)
    if full and claim and claim.verdict != "faster":
        return f"{backend}: take {_precision(full)}; no other precision is surely faster."
    why = f": {claim.speed} times the speed of float32" if claim else ""
    return f"{backend}: take {_precision(best)}, the fastest{why}."


def _precision(record: Record) -> str:
    """Return the precision as labels show it."""
    return label_of(record).rpartition(", ")[2]


def _against_full(record: Record, same: Sequence[Record]) -> Claim | None:
    full = next((other for other in same if other.precision == FULL), None)
    bracket = _bracket(record)
    if full is None or full is record or bracket not in full.timings:
        return None
    speed = ratio(full.medians_ms(bracket), record.medians_ms(bracket))
    return Claim(record, full, bracket, speed)


def _measured_parity(
    record: Record, parity: Sequence[Mapping[str, Any]]
) -> tuple[float | None, bool | None]:
    """(least PSNR, whether all passed) of comparisons with this precision; None if unknown."""
    about = [one for one in parity if record.precision in _words(one.get("b"))]
    figures = [one["psnr"] for one in about if isinstance(one.get("psnr"), int | float)]
    verdicts = [one["passed"] for one in about if one.get("passed") is not None]
    return min(figures, default=None), all(verdicts) if verdicts else None


def _words(stage: object) -> Iterator[str]:
    """Split the name of a stage into parts: "build/demo:fp16.image" has precision fp16."""
    yield from str(stage or "").rpartition(":")[2].split(".")


def _bracket(record: Record) -> str:
    """Return the bracket closest to restoring a photo: the whole image path, if it was timed."""
    return next(name for name in reversed(BRACKETS) if name in record.timings)


def _ms_per_megapixel(record: Record) -> float:
    return p50_ms(record, _bracket(record)) / (record.size[0] * record.size[1] / 1e6)


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"
