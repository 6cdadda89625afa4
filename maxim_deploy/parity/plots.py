"""How the error grows from the input to the output, as a picture. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maxim_deploy._files import atomic_file
from maxim_deploy._optional import require
from maxim_deploy.parity.locating import Located

_LABELS = 24
"""At most so many points are named on the axis."""


def plot_growth(located: Located, path: Path) -> None:
    """Write a PNG: the error at every point, what rounding explains, and the first that departs.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    require("matplotlib", "bench")
    from matplotlib.figure import Figure

    points = located.points
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot(_visible([p.error for p in points]), label=f"{located.a} against {located.b}")
    axes.plot(_visible([p.allowed for p in points]), "--", label="explained by rounding, at most")
    if located.first:
        where = points.index(located.first)
        axes.axvline(where, color="tab:red", linewidth=1, label=f"departs: {located.first}")
    axes.set_yscale("log")
    axes.set_ylabel("relative error (root mean square)")
    axes.set_title(f"error growth on {located.image!r}")
    ticks = np.unique(np.linspace(0, len(points) - 1, _LABELS).astype(int))
    axes.set_xticks(ticks, [points[k].name for k in ticks], rotation=60, ha="right", fontsize=7)
    axes.legend()
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _visible(values: list[float]) -> list[float]:
    """No error at all has no place on a logarithmic axis: a gap."""
    return [value if value > 0 else float("nan") for value in values]
