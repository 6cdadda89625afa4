"""The sections of a report. Each is None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.profile.tables import MIN_SHARE, method_of, rows_of
from maxim_deploy.benchmarks.report.charts import (
    MIB,
    ceiling_plots,
    latency_plots,
    load_plots,
    memory_plots,
    profile_plot,
    throughput_plots,
)
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
    Panel,
    cost_of_record,
    label_of,
    p50_ms,
    size_words,
)
from maxim_deploy.benchmarks.report.pictures import BeforeAfter, shown

NONE = "\u2013"
"""In a cell for which there is no number."""


def speed(panels: Sequence[Panel]) -> Markup | None:
    """Latency and throughput."""
    parts = [
        _panel(panel, [*latency_plots(panel), *throughput_plots(panel)], _times(panel))
        for panel in panels
        if panel.measured
    ]
    lead = (
        "Medians of wall time. Bars in colour are backends of this package, grey ones what they "
        "are compared with; the line at the end of a bar is the range of its median."
    )
    return section("speed", "Latency and throughput", lead, *parts) if parts else None


def load(panels: Sequence[Panel]) -> Markup | None:
    """Several callers at a time."""
    lead = (
        "Closed loop: every caller asks again as soon as it is answered. Open loop: pictures "
        "arrive at a given rate whether or not the last one is done."
    )
    return _plots("load", "Under load", lead, panels, load_plots)


def memory(panels: Sequence[Panel]) -> Markup | None:
    """Peak memory."""
    lead = (
        "The peak of a process that loads one subject and runs it: interpreter, library, weights "
        "and all."
    )
    return _plots("memory", "Memory", lead, panels, memory_plots, _memory_table)


def ceiling(panels: Sequence[Panel]) -> Markup | None:
    """How far from what the machine can do at most."""
    lead = (
        "No run can be faster than its arithmetic at the rate of this machine's best matrix "
        "product, nor than its data at the rate of a copy, both measured in the same run. The "
        "share is this bound over the time taken; caches can lift it above what it says of "
        "main memory."
    )
    return _plots("ceiling", "Share of the ceiling", lead, panels, ceiling_plots, _cost_table)


def blocks(profiles: Sequence[LayerProfile]) -> Markup | None:
    """Where the time goes."""
    if not profiles:
        return None
    lead = (
        "Time of one run by block of the published network and kind of work, from the runtime's "
        "own profiler. Level 0 is full size, 2 a quarter of it."
    )
    return section("blocks", "Where the time goes", lead, *map(_profile, profiles))


def parity(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Is the picture still the same?"""
    if not rows:
        return None
    failed = sum(row.get("passed") is False for row in rows)
    lead = (
        f"{len(rows)} compared, {failed or 'none'} outside its threshold. Errors in levels of 255."
    )
    heads = ("Compared", "with", "picture", "threshold", "result", "largest", "99.9 %", "mean",
             "PSNR, dB", "SSIM")  # fmt: skip
    cells = [
        (
            row.get("a", NONE),
            row.get("b", NONE),
            row.get("image", NONE),
            _threshold(row.get("threshold")),
            _result(row),
            _number(row.get("max_error_levels")),
            _number(row.get("p999_error_levels")),
            _number(row.get("mean_error_levels")),
            _number(row.get("psnr"), "{:.2f}"),
            _number(row.get("ssim"), "{:.5f}"),
        )
        for row in rows
    ]
    return section("parity", "Parity", lead, table("Parity", heads, cells, words=5))


def pictures(shots: Sequence[BeforeAfter]) -> Markup | None:
    """Before and after."""
    lead = "Drag the line, or focus it and use the arrow keys."
    return section("pictures", "Pictures", lead, *map(shown, shots)) if shots else None


def _panel(panel: Panel, plots: Sequence[Markup], *tables: Markup | None) -> Markup:
    first = panel.first
    threads = f", {first.threads} threads" if first.threads else ""
    words = f"{first.architecture}; {panel.machine}{threads}; {first.created}"
    return element(
        "div",
        element("h3", panel.title),
        element("p", words, class_="muted"),
        element("div", *plots, class_="plots"),
        *tables,
        class_="panel",
    )


def _plots(
    name: str,
    title: str,
    lead: str,
    panels: Sequence[Panel],
    draw: Callable[[Panel], Iterator[Markup]],
    tabulate: Callable[[Panel], Markup | None] = lambda _: None,
) -> Markup | None:
    drawn = ((panel, list(draw(panel))) for panel in panels)
    parts = [_panel(panel, plots, tabulate(panel)) for panel, plots in drawn if plots]
    return section(name, title, lead, *parts) if parts else None


def _times(panel: Panel) -> Markup:
    heads = ("Subject", "size", "bracket", "p50", "p90", "p95", "p99", "mean", "sd", "runs",
             "GPU p50", "images/s", "MP/s")  # fmt: skip
    rows = []
    for record in panel.measured:
        for bracket in BRACKETS:
            if (timing := record.timings.get(bracket)) is None:
                continue
            wall, gpu = timing["wall"], timing.get("gpu") or {}
            keys = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "sd_ms")
            rows.append(
                (
                    label_of(record),
                    size_words(record.size, record.batch),
                    BRACKETS[bracket],
                    *(_number(wall.get(key)) for key in keys),
                    wall.get("count", NONE),
                    _number(gpu.get("p50_ms")),
                    _number(timing.get("images_per_s")),
                    _number(timing.get("megapixels_per_s")),
                )
            )
    return folded("All times, in milliseconds", table("Times", heads, rows, words=3))


def _memory_table(panel: Panel) -> Markup:
    heads = ("Subject", "size", "baseline, MiB", "peak, MiB", "run, bytes per pixel", "device, MiB")
    rows = [
        (
            label_of(record),
            size_words(record.memory.get("size", record.size), record.batch),
            *(_number(_mib(record.memory.get(key))) for key in ("baseline_bytes", "peak_bytes")),
            _number(record.memory.get("bytes_per_pixel")),
            _number(_mib(record.memory.get("device_bytes"))),
        )
        for record in panel.records
        if record.memory
    ]
    return folded("All figures of memory", table("Memory", heads, rows, words=2))


def _cost_table(panel: Panel) -> Markup:
    heads = ("Subject", "size", "operations per pixel", "bytes per pixel", "bound, ms",
             "taken, ms", "share, %", "best product, GFLOP/s", "copy, GB/s")  # fmt: skip
    rows = []
    for record in panel.measured:
        cost = cost_of_record(record)
        if cost:
            taken = p50_ms(record, next(iter(b for b in BRACKETS if b in record.timings)))
            share = cost.get("share")
            rows.append(
                (
                    label_of(record),
                    size_words(record.size, record.batch),
                    _number(cost.get("operations_per_pixel")),
                    _number(cost.get("bytes_per_pixel")),
                    _number(cost.get("bound_ms")),
                    _number(taken),
                    _number(None if share is None else 100 * share),
                    _number(cost.get("gflops")),
                    _number(cost.get("gbps")),
                )
            )
    return folded("All figures of the ceiling", table("Ceiling", heads, rows, words=2))


def _profile(profile: LayerProfile) -> Markup:
    head, *rows = rows_of(profile)
    whole = table(f"Blocks, {profile.title}", ["Block", *head[1:]], rows)
    return element(
        "div",
        element("h3", profile.title),
        element("p", method_of(profile), class_="muted"),
        element("div", profile_plot(profile), _kinds(profile), class_="plots"),
        folded("All blocks, in milliseconds", whole),
        class_="panel",
    )


def _kinds(profile: LayerProfile) -> Markup:
    total = profile.nodes_ms or 1.0

    def rows(sums: Mapping[str, float]) -> list[tuple[object, ...]]:
        large = {name: ms for name, ms in sums.items() if ms >= MIN_SHARE * total}
        rest = sum(sums.values()) - sum(large.values())
        shown = large | ({"the rest": rest} if rest else {})
        return [(name, _number(ms), f"{100 * ms / total:.1f} %") for name, ms in shown.items()]

    heads = ("", "ms", "share")
    return element(
        "div",
        table("By kind of work", heads, rows(profile.by_kind())),
        table("By block, all stages and levels", heads, rows(profile.by_block())),
        class_="sums",
    )


def _mib(value: float | None) -> float | None:
    return None if value is None else value / MIB


def _number(value: object, form: str | None = None) -> object:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return NONE if value is None else value
    return form.format(value) if form else short_number(value)


def _threshold(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {limit}" for key, limit in value.items())
    return NONE if value is None else str(value)


def _result(row: Mapping[str, Any]) -> object:
    passed = row.get("passed")
    if passed is None:
        return NONE
    word = "passed" if passed else "failed"
    faults = element("small", "; ".join(row.get("faults") or ())) if not passed else None
    return together(element("span", word, class_=f"verdict {word}"), " ", faults)
