"""Hand-off times of earlier comparisons on a machine, which show whether it has several states.

A run that stays in one state cannot see another state. So the medians are kept in the cache folder,
in a file of JSON lines that is only appended to.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from maxim_deploy._records import append_lines, read_intact_lines

FILE = "handoff.jsonl"
KEPT = 50
"""Latest comparisons that count, because a virtual machine may move to another host."""


def recall(folder: Path, machine: str, now_ns: float) -> tuple[float, float] | None:
    """Return the range of earlier comparisons, and add this one to them.

    Args:
        folder: folder of the file. If it cannot be written, the comparison is not kept.
        machine: name of the machine, from `machine_of`.
        now_ns: median of this comparison in nanoseconds.

    Returns:
        The least and the largest earlier median in nanoseconds; None without an earlier comparison.
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
