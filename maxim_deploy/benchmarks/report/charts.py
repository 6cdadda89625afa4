"""Selects the plots of a panel and of a profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.profile.tables import shown_kinds
from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.report.panels import (
    BRACKETS,
    Panel,
    is_ours,
    label_of,
    short_number,
    size_words,
)
from maxim_deploy.benchmarks.report.plots import (
    QUIET,
    SERIES,
    Plot,
    bars,
    figure,
    legend_height,
    lines,
    stacked,
)
from maxim_deploy.benchmarks.timing import median_interval
from maxim_deploy.spec.kinds import KINDS
from maxim_deploy.spec.places import Place

MIB = 2**20

Value = Callable[[Record], float | None]
Size = tuple[int, int]


BARS = (
    "Bars in colour are backends of this package, grey ones what they are compared with; the line "
    "at the end of a bar is the range of its median."
)
LINES = "A line per subject, in its colour, has a point at each size that was measured."


def how_drawn(panels: Iterable[Panel]) -> str:
    """Describe what `by_size` draws: bars for one size, lines for several, or both."""
    several = {len({record.size for record in panel.measured}) > 1 for panel in panels}
    return " ".join(
        words for words, is_lines in ((BARS, False), (LINES, True)) if is_lines in several
    )


def latency_plots(panel: Panel) -> Iterator[Plot]:
    """Plot the median time by size and subject for every bracket."""
    for bracket in panel.brackets:
        yield from by_size(
            panel,
            f"Latency, {BRACKETS[bracket]}",
            "milliseconds, less is better",
            _value_at("timings", bracket, "wall", "p50_ms"),
            spans=bracket,
            log="xy",
        )


def throughput_plots(panel: Panel) -> Iterator[Plot]:
    """Plot megapixels per second by size and subject for every bracket."""
    for bracket in panel.brackets:
        title, unit = f"Throughput, {BRACKETS[bracket]}", "megapixels per second, more is better"
        yield from by_size(panel, title, unit, _value_at("timings", bracket, "megapixels_per_s"))


def memory_plots(panel: Panel) -> Iterator[Plot]:
    """Plot peak memory of process and device by size and subject."""
    for key, title in (("peak_bytes", "Peak host memory"), ("device_bytes", "Device memory")):
        value = _value_at("memory", key, scale=1 / MIB)
        yield from by_size(panel, title, "MiB, less is better", value, size_of=_memory_size)


def ceiling_plots(panel: Panel) -> Iterator[Plot]:
    """Plot the achieved share of the machine's ceiling."""
    value = _value_at("cost", "share", scale=100)
    yield from by_size(panel, "Share of the ceiling", "% of the bound, more is better", value)


def load_plots(panel: Panel) -> Iterator[Plot]:
    """Plot throughput by number of callers, and tail latency by offered load."""
    closed: dict[str, list[tuple[float, float]]] = {}
    opened: dict[str, list[tuple[float, float]]] = {}
    several = len(panel.points) > 1
    for record in panel.measured:
        where = f", {size_words(record.size, record.batch)}" if several else ""
        for test in record.load:
            name = f"{label_of(record)}{where}"
            rate, offered = test.get("images_per_s"), test.get("offered_per_s")
            tail = (test.get("latency") or {}).get("p95_ms")
            if offered is None and rate is not None:
                closed.setdefault(name, []).append((test["callers"], rate))
            elif offered is not None and tail is not None:
                opened.setdefault(name, []).append((offered, tail))
    for title, series, x_label, y_label in (
        ("Throughput under load, closed loop", closed, "callers at a time", "images per second"),
        ("Latency under load, open loop", opened, "images per second offered", "p95, milliseconds"),
    ):
        if series:
            draw = lines(
                {name: sorted(points) for name, points in series.items()},
                x_label=x_label,
                y_label=y_label,
            )
            height = 2.6 + legend_height(len(series))
            yield figure(title, f"{y_label} by {x_label}, a line per subject", height, draw)


def profile_plot(profile: LayerProfile) -> Plot:
    """Plot time by block of the network and kind of work."""
    places, kinds = profile.by_place(), list(shown_kinds(profile))
    parts = {
        kind: [by_kind.get(kind, 0.0) for by_kind in places.values()]
        for kind in kinds
        if kind != "other"
    }
    if "other" in kinds:
        rest = [sum(ms for kind, ms in row.items() if kind not in parts) for row in places.values()]
        parts["other"] = rest
    colours = {kind: KINDS.index(kind) for kind in KINDS}
    draw = stacked(_names(places), parts, colours=colours, unit="milliseconds")
    height = 0.9 + 0.22 * len(places) + 0.2 * ((len(parts) + 1) // 2)
    return figure("Time by block and kind of work", profile.title, height, draw)


def by_size(
    panel: Panel,
    title: str,
    unit: str,
    value: Value,
    *,
    spans: str | None = None,
    size_of: Callable[[Record], Size] = lambda record: record.size,
    log: str = "x",
) -> Iterator[Plot]:
    """Draw bars for one size and lines for several sizes; without values, nothing.

    Args:
        panel: records to show.
        title: title of the plot.
        unit: unit of the values.
        value: returns the value of a record, or None.
        spans: bracket whose noise to draw on bars.
        size_of: returns the size at which a record has the value.
        log: logarithmic axes of lines.
    """
    series = {
        name: [(record, found) for record in line if (found := value(record)) is not None]
        for name, line in panel.series().items()
    }
    colours = {name: number for number, name in enumerate(series)}
    series = {name: line for name, line in series.items() if line}
    if not series:
        return
    if len({size_of(record) for line in series.values() for record, _ in line}) > 1:
        sized = {
            name: [(size_of(record), found) for record, found in line]
            for name, line in series.items()
        }
        yield _over_sizes(title, unit, sized, colours, log)
        return
    names = list(series)
    rows = [line[0] for line in series.values()]
    size = size_words(size_of(rows[0][0]))
    draw = bars(
        names,
        [found for _, found in rows],
        [short_number(found) for _, found in rows],
        colours=[SERIES[0] if is_ours(record) else QUIET for record, _ in rows],
        spans=[median_interval(record.medians_ms(spans)) for record, _ in rows] if spans else None,
        unit=unit,
    )
    description = "; ".join(
        f"{name} {short_number(found)}" for name, (_, found) in zip(names, rows, strict=True)
    )
    yield figure(f"{title}, {size}", f"{unit}: {description}", 0.6 + 0.42 * len(names), draw)


def _over_sizes(
    title: str,
    unit: str,
    series: dict[str, list[tuple[Size, float]]],
    colours: dict[str, int],
    log: str,
) -> Plot:
    def megapixels(size: Size) -> float:
        return size[0] * size[1] / 1e6

    sizes = sorted({size for line in series.values() for size, _ in line}, key=megapixels)
    draw = lines(
        {name: [(megapixels(size), y) for size, y in line] for name, line in series.items()},
        x_label="size of the picture",
        y_label=unit.partition(",")[0],
        ticks={megapixels(size): size_words(size) for size in sizes},
        log=log,
        colours=colours,
    )
    height = 2.7 + legend_height(len(series))
    return figure(f"{title} by size", f"{unit}, a line per subject", height, draw)


def _memory_size(record: Record) -> Size:
    height, width = record.at("memory", "size") or record.size
    return height, width


def _value_at(field: str, *keys: str, scale: float = 1) -> Value:
    def value(record: Record) -> float | None:
        found = record.at(field, *keys)
        return None if found is None else scale * found

    return value


def _names(places: Iterable[Place]) -> list[str]:
    """Shorten names: the stage is left out if there is only one."""
    listed = list(places)
    several = len({place.stage for place in listed if place.stage}) > 1
    names = []
    for place in listed:
        stage = f"stage {place.stage} " if several and place.stage else ""
        level = "" if place.level is None else f" {place.level}"
        names.append(f"{stage}{place.part}{level}")
    return names
