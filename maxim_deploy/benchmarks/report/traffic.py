"""Memory traffic of engines, and how close their runs came to its lower bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.report.panels import Panel, Table, label_of, size_words
from maxim_deploy.spec.traffic import Part, Traffic


def traffic_tables(panels: Sequence[Panel], profiles: Sequence[LayerProfile]) -> list[Table]:
    """Return tables of engines' memory traffic and its lower bound on time."""
    bounds = (_bounds(panel) for panel in panels)
    moved = (table for one in profiles if one.traffic for table in _moved(one, one.traffic))
    return [*(table for table in bounds if table.rows), *moved]


def _bounds(panel: Panel) -> Table:
    heads = ("Engine", "size", "rates from", "bytes per pixel", "lower bound, ms", "taken, ms",
             "share, %", "GB/s", "GFLOP/s")  # fmt: skip
    keys = ("bytes_per_pixel", "bound_ms", "took_ms")
    rows = [
        (
            label_of(record),
            size_words(record.size, record.batch),
            bound.get("source"),
            *map(bound.get, keys),
            100 * bound["share"],
            *map(bound.get, ("gbps", "gflops")),
        )
        for record in panel.measured
        if (bound := record.bound)
    ]
    return Table(f"Lower bounds, not measurements, {panel.title}", heads, rows, words=3)


def _moved(profile: LayerProfile, traffic: Traffic) -> list[Table]:
    def percent(share: float | None) -> float | None:
        return None if share is None else 100 * share

    def parts(what: str, named: Mapping[str, Part]) -> Table:
        total = traffic.bytes_per_pixel or 1.0
        rows = [
            (name, part.layers, part.bytes_per_pixel, percent((part.bytes_per_pixel or 0) / total))
            for name, part in named.items()
        ]
        heads = (what, "layers", "bytes per pixel", "share, %")
        return Table(f"Traffic by {what}, {profile.title}", heads, rows)

    bound = profile.bound or {}
    figures = [
        ("layers", traffic.layers),
        ("layers that only move data", traffic.moves),
        ("bytes per pixel", traffic.bytes_per_pixel),
        ("of these float32, %", percent(traffic.float32_share)),
        ("of these in layers that only move data, %", percent(traffic.moves_share)),
        ("lower bound, not a measurement, ms", bound.get("bound_ms")),
        ("share of the bound that a run reached, %", percent(bound.get("share"))),
    ]
    return [
        Table(f"Traffic, {profile.title}", ("Figure", "value"), figures),
        parts("kind of work", traffic.by_kind),
        parts("block", traffic.by_block),
    ]
