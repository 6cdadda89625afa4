"""The first section: what is fastest, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.report.markup import (
    Markup,
    element,
    folded,
    section,
    short_number,
    table,
    together,
)
from maxim_deploy.benchmarks.report.panels import (
    BRACKETS,
    Claim,
    Panel,
    label_of,
    p50_ms,
    size_words,
)

NAMED = ("torch", "torch-compile", "literal")
"""Baselines that a card names; the table has all."""


OPEN_ROWS = 6
"""A longer table is folded away until asked for."""


def summary(panels: Sequence[Panel]) -> Markup | None:
    """What is fastest, and every claim with its noise."""
    measured = [panel for panel in panels if panel.measured]
    if not panels:
        return None
    cards = [card for panel in measured for card in _cards(panel)]
    parts: list[object] = [element("div", *cards, class_="cards")] if cards else []
    parts += [_claims(panel) for panel in measured if any(panel.claims())]
    lead = (
        "Ratios are taken within each round of one run; the number is their median, and in "
        "parentheses is the range in which that median lies with 95 % confidence. Only what lies "
        "outside of 1 altogether is called faster or slower."
    )
    return section("summary", "Summary", lead, *parts, _warnings(panels))


def _cards(panel: Panel) -> Iterator[Markup]:
    """The fastest of each size, with its lead over the baselines."""
    bracket = panel.brackets[0]
    claims = list(panel.claims())
    for record in panel.fastest():
        about = [c for c in claims if record in (c.own, c.other) and c.other.subject in NAMED]
        milliseconds = short_number(p50_ms(record, bracket))
        yield element(
            "article",
            element("h3", f"{panel.first.model}, {size_words(record.size, record.batch)}"),
            element("p", milliseconds, element("small", " ms"), class_="figure"),
            element("p", label_of(record), class_="who"),
            element("p", element("span", "with warnings", class_="verdict caution"))
            if any(one.warnings for one in (record, *(claim.other for claim in about)))
            else None,
            element("ul", *(element("li", _sentence(claim, record)) for claim in about)),
            class_="card",
        )


def _sentence(claim: Claim, of: Record) -> Markup:
    """The claim, in a card about one of its two records."""
    mine = claim.own is of
    other = label_of(claim.other if mine else claim.own)
    speed = f"{claim.speed.median:.2f}\u00d7"
    noise = f" ({claim.speed.low:.2f} to {claim.speed.high:.2f})"
    if claim.verdict not in ("faster", "slower"):
        return together(f"no sure difference from {other}: {claim.verdict}")
    if mine:
        return together(element("b", speed), f"{noise} the speed of {other}")
    return together(f"{other} has ", element("b", speed), f"{noise} its speed")


def _claims(panel: Panel) -> Markup:
    rows = [
        (
            label_of(claim.own),
            label_of(claim.other),
            size_words(claim.own.size, claim.own.batch),
            BRACKETS[claim.bracket],
            f"{claim.speed.median:.2f} ({claim.speed.low:.2f} to {claim.speed.high:.2f})",
            claim.speed.rounds,
            element("span", claim.verdict, class_=f"verdict {claim.verdict.split(' ')[0]}"),
        )
        for claim in panel.claims()
    ]
    heads = ("Subject", "against", "size", "bracket", "speed, times", "rounds", "verdict")
    title = f"Speed, {panel.title}"
    whole = table(title, heads, rows, words=4)
    return whole if len(rows) <= OPEN_ROWS else folded(f"{title}: all {len(rows)} ratios", whole)


def _warnings(panels: Sequence[Panel]) -> Markup | None:
    said = {
        f"{label_of(record)}, {size_words(record.size, record.batch)}: {text}": None
        for panel in panels
        for record in panel.records
        for text in [*record.warnings, *record.failures]
    }
    if not said:
        return None
    listed = element("ul", *(element("li", text) for text in said))
    many = len(said) > OPEN_ROWS
    return element(
        "aside",
        element("h3", "Not to be trusted blindly"),
        folded(f"All {len(said)} warnings", listed) if many else listed,
        class_="warning",
        role="note",
    )
