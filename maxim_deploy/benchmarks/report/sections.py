"""Content of the report's sections: plots with their tables, and tables alone.

The template has the words around them. A section that is empty or None is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.profile.tables import MIN_SHARE, method_of, rows_of, warning_of
from maxim_deploy.benchmarks.report.charts import (
    MIB,
    ceiling_plots,
    latency_plots,
    load_plots,
    memory_plots,
    profile_plot,
    throughput_plots,
)
from maxim_deploy.benchmarks.report.panels import (
    BRACKETS,
    Badge,
    Panel,
    Table,
    label_of,
    p50_ms,
    size_words,
)
from maxim_deploy.benchmarks.report.plots import Plot


class Plotted(NamedTuple):
    """A panel's plots with a table that `summary` unfolds."""

    panel: Panel
    plots: list[Plot]
    summary: str = ""
    table: Table | None = None


class Blocks(NamedTuple):
    """Time by block and kind: their `sums` and the whole table."""

    title: str
    method: str
    warning: str
    plot: Plot
    sums: list[Table]
    table: Table


def speed(panels: Sequence[Panel]) -> list[Plotted]:
    """Latency and throughput."""

    def draw(panel: Panel) -> Iterable[Plot]:
        yield from latency_plots(panel)
        yield from throughput_plots(panel)

    return _plotted(panels, draw, "All times, in milliseconds", _times)


def load(panels: Sequence[Panel]) -> list[Plotted]:
    """Concurrent callers."""
    return _plotted(panels, load_plots)


def memory(panels: Sequence[Panel]) -> list[Plotted]:
    """Peak memory."""
    return _plotted(panels, memory_plots, "All figures of memory", _memory)


def ceiling(panels: Sequence[Panel]) -> list[Plotted]:
    """Share of the machine's ceiling."""
    return _plotted(panels, ceiling_plots, "All figures of the ceiling", _cost)


def blocks(profile: LayerProfile) -> Blocks:
    """The section of a profile: time by block and by kind."""
    head, *rows = rows_of(profile)
    total = profile.nodes_ms or 1.0

    def sums(caption: str, ms_by_name: Mapping[str, float]) -> Table:
        large = {name: ms for name, ms in ms_by_name.items() if ms >= MIN_SHARE * total}
        rest = sum(ms_by_name.values()) - sum(large.values())
        shown = large | ({"the rest": rest} if rest else {})
        rows = [(name, ms, f"{100 * ms / total:.1f} %") for name, ms in shown.items()]
        return Table(caption, ("", "ms", "share"), rows)

    return Blocks(
        profile.title,
        method_of(profile),
        warning_of(profile),
        profile_plot(profile),
        [
            sums("By kind of work", profile.by_kind()),
            sums("By block, all stages and levels", profile.by_block()),
        ],
        Table(f"Blocks, {profile.title}", ["Block", *head[1:]], rows),
    )


def parity(comparisons: Sequence[Mapping[str, Any]]) -> Table | None:
    """Parity of the results."""
    if not comparisons:
        return None
    heads = ("Compared", "with", "picture", "threshold", "result", "largest", "99.9 %", "mean",
             "PSNR, dB", "SSIM")  # fmt: skip
    keys = ("max_error_levels", "p999_error_levels", "mean_error_levels")
    rows = [
        (
            *map(one.get, ("a", "b", "image")),
            _threshold(one.get("threshold")),
            _result(one),
            *map(one.get, keys),
            _formatted(one.get("psnr"), "{:.2f}"),
            _formatted(one.get("ssim"), "{:.5f}"),
        )
        for one in comparisons
    ]
    return Table("Parity", heads, rows, words=5)


def _plotted(
    panels: Sequence[Panel],
    draw: Callable[[Panel], Iterable[Plot]],
    summary: str = "",
    tabulate: Callable[[Panel], Table | None] = lambda _: None,
) -> list[Plotted]:
    drawn = ((panel, list(draw(panel))) for panel in panels)
    return [Plotted(panel, plots, summary, tabulate(panel)) for panel, plots in drawn if plots]


def _times(panel: Panel) -> Table:
    heads = ("Subject", "size", "bracket", "p50", "p90", "p95", "p99", "mean", "sd", "runs",
             "GPU p50", "images/s", "MP/s")  # fmt: skip
    keys = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "sd_ms", "count")
    rows = [
        (
            label_of(record),
            size_words(record.size, record.batch),
            BRACKETS[bracket],
            *map(timing["wall"].get, keys),
            (timing.get("gpu") or {}).get("p50_ms"),
            timing.get("images_per_s"),
            timing.get("megapixels_per_s"),
        )
        for record in panel.measured
        for bracket in BRACKETS
        if (timing := record.timings.get(bracket)) is not None
    ]
    return Table("Times", heads, rows, words=3)


def _memory(panel: Panel) -> Table:
    heads = ("Subject", "size", "baseline, MiB", "peak, MiB", "run, bytes per pixel", "device, MiB")

    def mib(value: float | None) -> float | None:
        return None if value is None else value / MIB

    rows = [
        (
            label_of(record),
            size_words(taken.get("size", record.size), record.batch),
            mib(taken.get("baseline_bytes")),
            mib(taken.get("peak_bytes")),
            taken.get("bytes_per_pixel"),
            mib(taken.get("device_bytes")),
        )
        for record in panel.records
        if (taken := record.memory)
    ]
    return Table("Memory", heads, rows, words=2)


def _cost(panel: Panel) -> Table:
    heads = ("Subject", "size", "operations per pixel", "bytes per pixel", "bound, ms",
             "taken, ms", "share, %", "best product, GFLOP/s", "copy, GB/s")  # fmt: skip
    rows = []
    for record in panel.measured:
        if cost := record.cost:
            share = cost.get("share")
            rows.append(
                (
                    label_of(record),
                    size_words(record.size, record.batch),
                    *map(cost.get, ("operations_per_pixel", "bytes_per_pixel", "bound_ms")),
                    p50_ms(record, next(b for b in BRACKETS if b in record.timings)),
                    None if share is None else 100 * share,
                    *map(cost.get, ("gflops", "gbps")),
                )
            )
    return Table("Ceiling", heads, rows, words=2)


def _formatted(value: object, form: str) -> object:
    return form.format(value) if isinstance(value, (int, float)) else value


def _threshold(value: object) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {limit}" for key, limit in value.items())
    return value


def _result(comparison: Mapping[str, Any]) -> Badge | None:
    passed = comparison.get("passed")
    if passed is None:
        return None
    faults = "; ".join(comparison.get("faults") or ())
    return Badge("passed") if passed else Badge("failed", faults)
