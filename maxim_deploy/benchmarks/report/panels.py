"""Panels: comparable records, measured by one run on one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.subjects import TORCH
from maxim_deploy.benchmarks.timing import MIN_ROUNDS, Ratio, ratio
from maxim_deploy.errors import printable
from maxim_deploy.runtime.registry import backend_label
from maxim_deploy.spec.precision import FULL, PRECISIONS

BRACKETS = {
    "network": "network alone",
    "transfer": "with transfers",
    "image": "whole image path",
}
"""In plain words; see `records`."""

_BASELINES = {
    "torch-compile": "torch.compile",
    "literal": "literal export",
    "none": "no rewrite",
}


class Badge(NamedTuple):
    """A table cell that is coloured by its first word; the note is shown in small print."""

    word: str
    note: str = ""


class Table(NamedTuple):
    """A table with a title.

    Attributes:
        caption: title of the table.
        heads: heads of the columns.
        rows: cells of each row; the first cell names the row. A cell is text, a number, a `Badge`,
            or None if it is empty.
        words: number of text columns from the left; the other columns are numbers.
        stacks: whether each row becomes a list on a narrow screen, to avoid scrolling.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    words: int = 1
    stacks: bool = False


@dataclass(frozen=True)
class Claim:
    """Speedup of one of this package's backends over a baseline, and whether it is certain.

    Attributes:
        own, other: their records, of one run, size and batch.
        bracket: the timed bracket.
        speed: how many times as fast as `other` the record `own` is.
    """

    own: Record
    other: Record
    bracket: str
    speed: Ratio

    @property
    def verdict(self) -> str:
        """State whether the subject is faster."""
        if self.speed.rounds < MIN_ROUNDS:
            return "too few rounds"
        if self.speed.low <= 1 <= self.speed.high:
            return "within the noise"
        return "faster" if self.speed.low > 1 else "slower"


@dataclass(frozen=True)
class Panel:
    """The records of one run and one model."""

    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The first record; it holds all values that the records share."""
        return self.records[0]

    @property
    def title(self) -> str:
        """The model and its measurement plan."""
        return f"{self.first.model} ({self.first.suite})"

    @property
    def method(self) -> str:
        """One line on subjects, machine and date."""
        first = self.first
        threads = f", {first.threads} threads" if first.threads else ""
        return f"{first.architecture}; {self.machine}{threads}; {first.created}"

    @property
    def machine(self) -> str:
        """The machine of all subjects, in short."""
        environment = self.first.environment
        devices = {r.device for r in self.records if r.device and r.device != "cpu"}
        cpu = f"{environment.get('cpu') or 'unknown CPU'}, {environment.get('cpus')} CPUs"
        return " and ".join([*sorted(d.partition(" ")[2] or d for d in devices), cpu])

    @property
    def measured(self) -> tuple[Record, ...]:
        """Records with times."""
        return tuple(record for record in self.records if record.timings)

    @property
    def points(self) -> list[tuple[tuple[int, int], int]]:
        """(size, batch) in order of pixels."""
        found = {(record.size, record.batch) for record in self.measured}
        return sorted(found, key=lambda point: (point[0][0] * point[0][1], point))

    @property
    def brackets(self) -> list[str]:
        """Brackets that were timed."""
        return [name for name in BRACKETS if any(name in r.timings for r in self.records)]

    def series(self) -> dict[str, list[Record]]:
        """Records with times by label, in order of size; labels keep their order."""
        several = len({record.batch for record in self.measured}) > 1
        lines: dict[str, list[Record]] = {}
        for record in self.measured:
            batch = f", batch {record.batch}" if several else ""
            lines.setdefault(label_of(record) + batch, []).append(record)
        for line in lines.values():
            line.sort(key=lambda record: record.size[0] * record.size[1])
        return lines

    def claims(self) -> Iterator[Claim]:
        """Every backend of this package against every baseline, per size, batch and bracket."""
        for size, batch in self.points:
            here = [r for r in self.measured if (r.size, r.batch) == (size, batch)]
            for own in filter(is_ours, here):
                for other in here:
                    shared = [b for b in BRACKETS if b in own.timings and b in other.timings]
                    if not is_ours(other) and shared:
                        yield _claim(own, other, shared[0])

    def fastest(self) -> list[Record]:
        """The fastest record of each size and batch in the first bracket."""
        bracket = self.brackets[0]
        best = []
        for point in self.points:
            here = [r for r in self.measured if (r.size, r.batch) == point and bracket in r.timings]
            if here:
                best.append(min(here, key=lambda record: p50_ms(record, bracket)))
        return best


def panels_of(records: Iterable[Record]) -> list[Panel]:
    """Group records by run, plan and model, in their given order."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.run, record.suite, record.model), []).append(record)
    return [Panel(tuple(group)) for group in groups.values()]


def is_ours(record: Record) -> bool:
    """Whether the subject is a backend of this package rather than a baseline."""
    return record.subject == record.runner and record.subject not in TORCH


def label_of(record: Record) -> str:
    """Return the label of a record's subject."""
    if record.subject in _BASELINES:
        name = _BASELINES[record.subject]
    elif record.subject == record.runner:
        name = backend_label(record.subject)
    else:
        name = f"only {record.subject.replace('_', ' ')}"
    precision = record.precision if record.precision != FULL else PRECISIONS[FULL].type
    return printable(f"{name}, {precision}")


def p50_ms(record: Record, bracket: str) -> float:
    """Return the median wall time of a bracket."""
    return float(record.timings[bracket]["wall"]["p50_ms"])


def short_number(value: float) -> str:
    """Format a number with about three digits."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def size_words(size: Sequence[int], batch: int = 1) -> str:
    """Format a size such as "256x256" or "4 of 256x256", with a multiplication sign."""
    words = "\u00d7".join(map(str, size))
    return words if batch == 1 else f"{batch} of {words}"


def _claim(own: Record, other: Record, bracket: str) -> Claim:
    speed = ratio(other.medians_ms(bracket), own.medians_ms(bracket))
    return Claim(own, other, bracket, speed)
