"""The first section: the fastest subjects, their lead, and its certainty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.report.panels import (
    BRACKETS,
    Badge,
    Claim,
    Panel,
    Table,
    label_of,
    p50_ms,
    size_words,
)

NAMED = ("torch", "torch-compile", "literal")
"""Baselines that a card names; the table has all."""

Sentence = tuple[str, str, str, str]
"""The text before a speed, the speed, the text after it, and the verdict."""


class Card(NamedTuple):
    """The fastest subject of one size, with its lead over the baselines.

    Attributes:
        title: model and size.
        milliseconds: median time of the subject.
        label: label of the subject.
        cautious: whether a record behind a claim has warnings.
        sentences: its claims.
    """

    title: str
    milliseconds: float
    label: str
    cautious: bool
    sentences: list[Sentence]


def cards(panel: Panel) -> Iterator[Card]:
    """Return the fastest subject of each size."""
    bracket = panel.brackets[0]
    claims = list(panel.claims())
    for record in panel.fastest():
        about = [c for c in claims if record in (c.own, c.other) and c.other.subject in NAMED]
        yield Card(
            f"{panel.first.model}, {size_words(record.size, record.batch)}",
            p50_ms(record, bracket),
            label_of(record),
            any(one.warnings for one in (record, *(claim.other for claim in about))),
            [_sentence(claim, record) for claim in about],
        )


def claims(panel: Panel) -> Table:
    """Return every claim with its noise."""
    rows = [
        (
            label_of(claim.own),
            label_of(claim.other),
            size_words(claim.own.size, claim.own.batch),
            str(claim.speed),
            Badge(claim.verdict),
            BRACKETS[claim.bracket],
            claim.speed.rounds,
        )
        for claim in panel.claims()
    ]
    heads = ("Subject", "against", "size", "speed, times", "verdict", "bracket", "rounds")
    return Table(f"Speed, {panel.title}", heads, rows, words=6, stacks=True)


def warnings(panels: Sequence[Panel]) -> list[str]:
    """Return each warning and failure once."""
    said = {
        f"{label_of(record)}, {size_words(record.size, record.batch)}: {text}": None
        for panel in panels
        for record in panel.records
        for text in [*record.warnings, *record.failures]
    }
    return list(said)


def _sentence(claim: Claim, of: Record) -> Sentence:
    """Phrase the claim for a card about one of its two records."""
    is_own = claim.own is of
    other = label_of(claim.other if is_own else claim.own)
    speed = f"{claim.speed.median:.2f}\u00d7"
    noise = f" ({claim.speed.low:.2f} to {claim.speed.high:.2f})"
    if claim.verdict not in ("faster", "slower"):
        return f"no sure difference from {other}:", "", "", claim.verdict
    if is_own:
        return "", speed, f"{noise} the speed of {other}", claim.verdict
    return f"{other} has ", speed, f"{noise} its speed", claim.verdict
