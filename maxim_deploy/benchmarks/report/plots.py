"""Plots as inline SVG that adopt the page's font, width and colours.

Matplotlib draws with placeholder colours, which become CSS variables in the SVG. Text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from maxim_deploy._optional import require

WIDTH = 4.0
"""Inches; what fits a narrow screen. A wide one shows several plots side by side."""

INK, MUTED, GRID, QUIET = "#000001", "#000002", "#000003", "#000004"
_VARIABLES = {"01": "ink", "02": "muted", "03": "grid", "04": "quiet"}
SERIES = tuple(f"#0000{0xA0 + number:02x}" for number in range(12))
"""Colours of the series; CSS variables `--c0` to `--c11`."""

LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX*"

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

_numbers = count(1)
"""Salts for the names in a plot, so that names of different plots in a page differ."""

Draw = Callable[[Any], None]


class Plot(NamedTuple):
    """A plot in a page.

    Attributes:
        title: title above the plot.
        description: text description for screen readers.
        svg: an SVG element without "<svg" at its beginning, so that attributes can be added.
    """

    title: str
    description: str
    svg: str


def figure(title: str, description: str, height: float, draw: Draw) -> Plot:
    """Render a plot with its title and a text description for screen readers.

    Args:
        title: title above the plot.
        description: description in a sentence.
        height: height in inches.
        draw: draws on a `matplotlib.axes.Axes`.
    """
    matplotlib = require("matplotlib", "bench")
    figures = require("matplotlib.figure", "bench")
    settings = {"svg.fonttype": "none", "svg.hashsalt": str(next(_numbers)), "font.size": 10}
    settings |= {"text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID}
    settings |= {"xtick.color": MUTED, "ytick.color": INK, "grid.color": GRID}
    settings |= {"axes.titlecolor": INK, "legend.labelcolor": INK, "legend.frameon": False}
    settings |= {"text.parse_math": False}  # a name may have a dollar sign
    with matplotlib.rc_context(settings):
        drawn = figures.Figure(figsize=(WIDTH, height), layout="constrained")
        axes = drawn.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        file = io.StringIO()
        drawn.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    return Plot(title, description, _inline(file.getvalue()))


def bars(
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    *,
    colours: Sequence[str],
    spans: Sequence[tuple[float, float]] | None = None,
    unit: str,
) -> Draw:
    """Draw horizontal bars, the first on top, with their values at the ends.

    Args:
        names: names above the bars.
        values: lengths of the bars.
        texts: texts after the bars.
        colours: a colour for each bar.
        spans: range (low, high) for a line at the end of each bar.
        unit: label of the axis.
    """

    def draw(axes: Any) -> None:
        rows = range(len(names))
        axes.barh(rows, values, height=0.46, color=colours)
        ends = list(values)
        for row, (low, high) in enumerate(spans or ()):
            axes.plot([low, high], [row, row], color=INK, linewidth=1.2, solid_capstyle="butt")
            ends[row] = max(ends[row], high)
        largest = max(ends, default=0.0) or 1.0
        for row, (end, text) in enumerate(zip(ends, texts, strict=True)):
            axes.text(end + 0.015 * largest, row, text, va="center", color=INK)
            axes.text(0, row - 0.31, names[row], va="bottom", color=INK)
        axes.set_yticks([])
        axes.set_xlim(0, largest * 1.2)
        axes.set_ylim(len(names) - 0.65, -0.85)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit)
        axes.xaxis.grid(visible=True, linewidth=0.6)
        axes.set_axisbelow(True)

    return draw


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    ticks: Mapping[float, str] | None = None,
    log: str = "",
    colours: Mapping[str, int] | None = None,
) -> Draw:
    """Draw lines through points, with a legend below.

    Args:
        series: points (x, y) by name.
        x_label: label of the x axis.
        y_label: label of the y axis.
        ticks: labels by position on the x axis.
        log: logarithmic axes: "x", "xy" or none. A linear y axis begins at 0.
        colours: colour number by series, so that a series has the same colour in all plots.
    """
    ticker = require("matplotlib.ticker", "bench")

    def draw(axes: Any) -> None:
        for position, (name, points) in enumerate(series.items()):
            number = (colours or {}).get(name, position)
            axes.plot(
                *zip(*points, strict=True),
                label=name,
                color=SERIES[number % len(SERIES)],
                linestyle=LINES[number // len(SERIES) % len(LINES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4.5,
                linewidth=1.8,
            )
        if "x" in log:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        if "y" in log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        else:
            axes.set_ylim(bottom=0)
        if ticks:
            axes.set_xticks(list(ticks), list(ticks.values()), rotation=25, ha="right")
            axes.set_xticks([], minor=True)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(visible=True, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.figure.legend(loc="outside lower left", ncols=1, fontsize=9.5, handlelength=2.6)

    return draw


def legend_height(entries: int) -> float:
    """Return the height of the legend of `lines` in inches."""
    return 0.205 * entries + 0.1


def stacked(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    *,
    colours: Mapping[str, int],
    unit: str,
) -> Draw:
    """Draw stacked horizontal bars, the first on top, with a legend below.

    Args:
        names: names of the bars.
        parts: lengths by the name of the part, one per bar.
        colours: colour number by part.
        unit: label of the axis.
    """

    def draw(axes: Any) -> None:
        left = [0.0] * len(names)
        for name, lengths in parts.items():
            colour = SERIES[colours[name] % len(SERIES)]
            axes.barh(range(len(names)), lengths, 0.74, left, label=name, color=colour)
            left = [start + length for start, length in zip(left, lengths, strict=True)]
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit)
        axes.xaxis.grid(visible=True, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.figure.legend(loc="outside lower left", ncols=2, fontsize=9.5, handlelength=1.0)

    return draw


def _inline(svg: str) -> str:
    """Return the SVG text after the name of its tag, in the colours of the page."""
    # Groups are numbered alike in every plot, and an id must be one in the page. What is referred
    # to has a name from the plot's own salt.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg.partition("<svg")[2])
    return re.sub(r"#0000([0-9a-f]{2})\b", _variable, svg)


def _variable(match: re.Match[str]) -> str:
    code = match[1]
    return f"var(--{_VARIABLES.get(code) or f'c{int(code, 16) - 0xA0}'})"
