"""A profile as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.engines.traffic import traffic_text
from maxim_deploy.spec.kinds import KINDS

MIN_SHARE = 0.005
"""Share of all nodes' time. A kind that takes less has no column and counts as "other"."""

SLOWED = 1.1
"""Ratio of the times with and without the profiler above which a warning is shown."""


def text_of_profile(profile: LayerProfile) -> str:
    """A row per block of the network, a column per kind of work, in milliseconds; aligned."""
    rows = rows_of(profile)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
    traffic = ["", *traffic_text(profile.traffic)] if profile.traffic else []
    bound = [f"  {bound_text(profile.bound)}"] if profile.bound else []
    head = [f"{profile.title}: {method_of(profile)}", *filter(None, [warning_of(profile)])]
    return "\n".join([*head, "", *lines, *traffic, *bound])


def bound_text(bound: Mapping[str, Any]) -> str:
    """A `bound`, as records and profiles have it, in a sentence."""
    return (
        f"lower bound on {bound['gpu']}, not a measurement: {bound['bound_ms']:.3g} ms "
        f"({bound['gbps']:.0f} GB/s, {bound['gflops']:.0f} GFLOP/s, {bound['source']}); a run took "
        f"{bound['took_ms']:.3g} ms, so it reached {100 * bound['share']:.0f} % of the bound"
    )


def rows_of(profile: LayerProfile) -> list[list[str]]:
    """Heads, a row per block, rows for time outside of blocks, and the sum. An empty cell is 0."""
    kinds = shown_kinds(profile)
    rows = [["", "ms", "share", *kinds]]
    wall = profile.wall_ms or 1.0

    def row(name: str, by_kind: dict[str, float], total: float) -> list[str]:
        shown = {kind: by_kind.get(kind, 0.0) for kind in kinds}
        if "other" in shown:
            shown["other"] = sum(by_kind.values()) - sum(shown.values()) + shown["other"]
        cells = [_ms(value) if value else "" for value in shown.values()]
        return [name, _ms(total), f"{100 * total / wall:.1f} %", *cells]

    for place, by_kind in profile.by_place().items():
        rows.append(row(str(place), by_kind, sum(by_kind.values())))
    rows.append(row("not attributed", {}, profile.unattributed_ms))
    rows.append(row("between nodes", {}, profile.between_ms))
    rows.append(row("all", profile.by_kind(), profile.wall_ms))
    return rows


def shown_kinds(profile: LayerProfile) -> Sequence[str]:
    """Kinds with a column of their own, in the order of `KINDS`."""
    sums, total = profile.by_kind(), profile.nodes_ms
    large = [kind for kind in KINDS if sums.get(kind, 0.0) >= MIN_SHARE * total and kind != "other"]
    return large if len(large) == len(sums) else [*large, "other"]


def method_of(profile: LayerProfile) -> str:
    """How it was measured, in a sentence."""
    threads = "" if profile.threads is None else f", {profile.threads} threads"
    plain = ""
    if profile.plain_ms:
        cost = 100 * (profile.wall_ms / profile.plain_ms - 1)
        plain = f" ({profile.plain_ms:.1f} ms without the profiler, {cost:+.0f} % with it)"
    return (
        f"{profile.library} on {profile.device}{threads}, {profile.io} form, medians of "
        f"{profile.runs} runs, {profile.wall_ms:.1f} ms{plain}"
    )


def warning_of(profile: LayerProfile) -> str:
    """A warning that profiling slowed the network; empty if it did not, or if that is unknown."""
    if not profile.plain_ms or profile.wall_ms <= SLOWED * profile.plain_ms:
        return ""
    return (
        f"warning: profiling slowed the network, {profile.wall_ms / profile.plain_ms:.2f} times "
        "the time without it; small nodes look slower than they are"
    )


def _ms(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
