"""Records as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.timing import ratio


def table_of(records: Sequence[Record]) -> str:
    """One run of a plan as Markdown: method, a table with a row per subject, how to read it.

    Ratios are the median over the rounds, with the range in parentheses.
    """
    anchors = [record for record in records if record.subject in ("pytorch", "literal")][:2]
    heads = ["", "p50, ms"]
    heads += [f"time / {anchor.subject}" for anchor in anchors]
    heads += [f"speed, x {anchor.subject}" for anchor in anchors]
    heads += ["nodes", "transposes", "live set, B/px", "peak, MB", "run, B/px", "max error"]
    lines = [_row(heads), _row(["---"] + ["---:"] * (len(heads) - 1))]
    lines += [_row(_cells(record, anchors)) for record in records]
    return "\n".join([_method(records), "", *lines])


def _cells(record: Record, anchors: Sequence[Record]) -> list[str]:
    own = record.time["seconds"]
    graph, memory = record.graph, record.memory
    return [
        record.subject,
        f"{median(own) * 1e3:.0f}" if median(own) >= 0.1 else f"{median(own) * 1e3:.1f}",
        *(f"{ratio(own, anchor.time['seconds']).median:.2f}" for anchor in anchors),
        *(str(ratio(anchor.time["seconds"], own)) for anchor in anchors),
        *([f"{graph['nodes']}", f"{graph['transposes']}"] if graph else ["", ""]),
        f"{graph['live_bytes_per_pixel']:.0f}" if graph else "",
        f"{memory['peak_bytes'] / 1e6:.0f}" if memory else "",
        f"{memory['bytes_per_pixel']:.0f}" if memory else "",
        f"{record.agreement['max_error']:.1e}",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _method(records: Sequence[Record]) -> str:
    time, machine = records[0].time, records[0].environment
    sizes = {_size(record.memory["size"]) for record in records if record.memory}
    return (
        f"**{records[0].suite}**: {records[0].architecture}, {_size(time['size'])}, batch 1, "
        f"{time['threads']} threads, medians of {time['rounds']} alternating rounds after "
        f"{time['warmup']} warm-up runs"
        + (f"; peak of the whole process at {sizes.pop()}" if sizes else "")
        + f". {machine['cpu']}, {machine['cpus']} CPUs, load {machine['load_average_1m']} before; "
        + ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
        + f"; {records[0].created}, commit {machine['commit']}."
    )


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
