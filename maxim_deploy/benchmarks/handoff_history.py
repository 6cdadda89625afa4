"""What a hand-off took in earlier comparisons on a machine: whether it has more than one state.

A run that lies wholly in one state cannot know of another. So the medians are kept beside what is
made for measurements, a line of JSON each, only ever appended.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from maxim_deploy._records import append_lines, read_intact_lines

FILE = "handoff.jsonl"
KEPT = 50
"""Comparisons that count: the host of a virtual machine may become another one."""


def recall(folder: Path, machine: str, now_ns: float) -> tuple[float, float] | None:
    """The least and the most of earlier comparisons, to which this one is added.

    Args:
        folder: in which to keep them; if it cannot be written they are not kept.
        machine: as `environment.machine_of` names it.
        now_ns: median of this comparison, nanoseconds.

    Returns:
        None if there is no earlier one.
    """
    kept: list[tuple[str, float]] = []
    with suppress(OSError):
        kept = read_intact_lines(
            folder / FILE, lambda line: (line["machine"], float(line["handoff_ns"]))
        )
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        append_lines(folder / FILE, [{"machine": machine, "handoff_ns": now_ns}])
    earlier = [ns for name, ns in kept if name == machine][-KEPT:]
    return (min(earlier), max(earlier)) if earlier else None
