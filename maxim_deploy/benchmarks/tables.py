"""Records as Markdown: a section per run, a table per model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from maxim_deploy.benchmarks.records import Record, read_records
from maxim_deploy.benchmarks.suite import BRACKETS
from maxim_deploy.benchmarks.timing import MIN_ROUNDS, ratio
from maxim_deploy.errors import printable
from maxim_deploy.imaging import Padding
from maxim_deploy.machine.facts import machine_of

ANCHORS = ("torch", "literal")
"""Subjects in float32 that the speed of the others is compared with."""

_BAR = "\\|"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

LEGEND = f"""\
Times are medians of wall time (p50) in milliseconds unless the column says otherwise: `network` is
the network alone, `transfer` adds transfers on a GPU, `image` is the whole path from an 8-bit
picture to another. `speed, x A` says how many times as fast as A the network is: the median ratio
of the rounds and its 95 % confidence interval. `~` marks an interval that contains 1, where the two
cannot be told apart. Fewer than {MIN_ROUNDS} rounds give no verdict. `spread` is the middle half of
the rounds' medians over their median, the largest of all brackets. `load` lasts from the start of
the process to a loaded network; `first` is its first run, with any compilation. `peak` is the peak
memory of the process, and `run` is the memory that a run adds per padded pixel. `bound` is the
share of the p50 that the graph needs node by node at the ceilings of this machine, a matrix product
and a copy measured in the run. `products` is the same if everything except matrix products and
convolutions were free. `traffic` is the memory traffic of an engine's layers, and `of its bound` is
the share of the p50 that the GPU needs at least for it: a lower bound, not a measurement. `live
set` is the least memory for the order of the graph. `max error` is against the first subject, on
values of about [0, 1]."""


def results_of(files: Sequence[Path]) -> str:
    """All records of some files as one document.

    Raises:
        UsageError: a file cannot be read.
    """
    parts = ["# Results", "", "Rendered by `maxim-bench --render`; do not edit.", "", LEGEND]
    for file in sorted(files):
        parts += ["", f"## {file.name}", "", table_of(read_records(file))]
    return "\n".join(parts)


def table_of(records: Sequence[Record]) -> str:
    """Records of one or several runs: method, tables, and warnings."""
    parts = []
    for _, run in groupby(records, key=lambda record: (record.run, record.model)):
        group = list(run)
        parts += [_method(group), "", *_table(group)]
        if any(record.load for record in group):
            parts += ["", *_load_table(group)]
        if notes := _notes(group):
            parts += ["", *notes]
        parts.append("")
    return "\n".join(parts).rstrip()


Column = tuple[str, Callable[[Record], str]]


def _table(records: Sequence[Record]) -> list[str]:
    """A row per record that has numbers; columns that would be empty are left out."""
    rows = [record for record in records if record.error is None]
    network = ("timings", "network")
    columns: list[Column] = [
        ("subject", lambda record: record.label),
        ("size", _size_of),
        *((bracket, _at(_ms, "timings", bracket, "wall", "p50_ms")) for bracket in BRACKETS),
        ("GPU time", _at(_ms, *network, "gpu", "p50_ms")),
        ("p95", _at(_ms, *network, "wall", "p95_ms")),
        ("spread", _at("{:.0%}".format, "noise", "spread")),
        ("megapixels/s", _at(_digits, *network, "megapixels_per_s")),
        *((f"speed, x {anchor}", _speed(anchor, rows)) for anchor in ANCHORS),
        ("load, s", _at(_digits, "start", "load_s")),
        ("first", _at(_ms, "start", "first_call_ms")),
        ("peak, MB", _peak),
        ("run, B/px", _at("{:.0f}".format, "memory", "bytes_per_pixel")),
        ("device, MB", _at(_millions, "memory", "device_bytes")),
        ("kFLOP/px", _at(_thousands, "cost", "operations_per_pixel")),
        ("bound", _at("{:.0%}".format, "cost", "share")),
        ("products", _at("{:.0%}".format, "cost", "fused_share")),
        ("traffic, B/px", _at("{:.0f}".format, "bound", "bytes_per_pixel")),
        ("of its bound", _at("{:.0%}".format, "bound", "share")),
        ("nodes", _at(str, "graph", "nodes")),
        ("transposes", _at(str, "graph", "transposes")),
        ("live set, B/px", _at("{:.0f}".format, "graph", "live_bytes_per_pixel")),
        ("max error", _at("{:.1e}".format, "agreement", "max_error")),
    ]
    return _markdown(columns, rows) if rows else []


def _peak(record: Record) -> str:
    """Peak memory, and its size if that differs from the record's padded size."""
    if record.memory is None:
        return ""
    padding = Padding(*record.size)
    size = record.memory["size"]
    other = size != [padding.padded_height, padding.padded_width]
    return _millions(record.memory["peak_bytes"]) + (f" at {_size(size)}" if other else "")


def _at(text: Callable[[Any], str], field: str, *keys: str) -> Callable[[Record], str]:
    """The text of the value at these keys of a record's field; empty if a key is missing."""

    def cell(record: Record) -> str:
        value = record.at(field, *keys)
        return "" if value is None else text(value)

    return cell


def _size_of(record: Record) -> str:
    return _size(record.size) + f" x {record.batch}" * (record.batch > 1)


def _load_table(records: Sequence[Record]) -> list[str]:
    heads = ["under load", "size", "loop", "callers", "offered/s", "images/s", "p50", "p95", "p99"]
    lines = [_row(heads), _row(["---"] * 3 + ["---:"] * 6)]
    for record in records:
        for entry in record.load:
            latency = entry["latency"]
            cells = [
                record.label,
                _size(record.size),
                entry["mode"],
                str(entry["callers"]),
                _digits(entry["offered_per_s"]) if entry["offered_per_s"] else "",
                _digits(entry["images_per_s"]),
                *(_ms(latency[f"p{percent}_ms"]) for percent in (50, 95, 99)),
            ]
            lines.append(_row(cells))
    return lines


def _markdown(columns: Sequence[Column], rows: Sequence[Record]) -> list[str]:
    cells = [[head, *(text(record) for record in rows)] for head, text in columns]
    kept = [column for column in cells if any(column[1:])]
    lines = [_row(line) for line in zip(*kept, strict=True)]
    return [lines[0], _row(["---", "---"] + ["---:"] * (len(kept) - 2)), *lines[1:]]


def _speed(anchor: str, rows: Sequence[Record]) -> Callable[[Record], str]:
    def text(own: Record) -> str:
        for other in rows:
            same = (other.size, other.batch) == (own.size, own.batch)
            if other.label == anchor and same and other is not own:
                return _ratio(other, own)
        return ""

    return text


def _ratio(other: Record, own: Record) -> str:
    if "network" not in other.timings or "network" not in own.timings:
        return ""
    speed = ratio(other.medians_ms("network"), own.medians_ms("network"))
    if speed.rounds >= MIN_ROUNDS and speed.verdict is None:
        return f"~{speed}"
    return str(speed)


def _method(records: Sequence[Record]) -> str:
    first, machine = records[0], records[0].environment
    timed = [record for record in records if record.timings]
    rounds = {len(one["rounds_ms"]) for record in timed for one in record.timings.values()}
    threads = f"{first.threads} threads" if first.threads else "a thread per core"
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    ceilings = next((record.cost for record in records if record.cost), None)
    at_most = (
        f" At most {ceilings['gflops']:.0f} GFLOP/s and {ceilings['gbps']:.1f} GB/s."
        if ceilings
        else ""
    )
    ns = next((record.handoff_ns for record in timed if record.handoff_ns), None)
    handoff = f" {ns:.0f} ns from one processor to the next." if ns else ""
    return printable(
        f"**{first.suite}**, {first.model}: {first.architecture}; {threads}, "
        f"{_range(rounds)} rounds. {machine_of(machine)}, load {machine['load_average_1m']} "
        f"before.{at_most}{handoff} {libraries}; {first.created}, commit {machine['commit']}."
    )


def _notes(records: Sequence[Record]) -> list[str]:
    """Failures and warnings, each once with all subjects that it applies to."""
    found: dict[str, dict[str, str]] = {}
    for record in records:
        what = f"{record.label} {_size_of(record)}"
        for text in [*record.warnings, *(f"failed: {reason}" for reason in record.failures)]:
            line = printable(text.replace("\n", " "))
            found.setdefault(_NUMBER.sub("0", line), {})[what] = line
    return [
        f"- {'all' if len(texts) == len(records) > 1 else ', '.join(texts)}: "
        + _in_one([*texts.values()])
        for texts in found.values()
    ]


def _in_one(texts: Sequence[str]) -> str:
    """Join texts that differ only in numbers into one text with ranges."""
    columns = [{*numbers} for numbers in zip(*map(_NUMBER.findall, texts), strict=True)]
    ranges = iter(
        next(iter(numbers)) if len(numbers) == 1 else _range({*map(float, numbers)})
        for numbers in columns
    )
    return _NUMBER.sub(lambda _: next(ranges), texts[0])


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _thousands(value: float) -> str:
    return f"{value / 1e3:.0f}"


def _millions(value: float) -> str:
    return f"{value / 1e6:.0f}"


def _range(numbers: set[int] | set[float]) -> str:
    if not numbers:
        return "no"
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _row(cells: Sequence[str]) -> str:
    # A name from a file must end neither its cell nor its line.
    return f"| {' | '.join(printable(cell).replace('|', _BAR) for cell in cells)} |"


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
