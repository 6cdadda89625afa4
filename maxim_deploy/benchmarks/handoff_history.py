"""What a hand-off took in earlier comparisons on a machine: whether it has more than one state.

A run that lies wholly in one state cannot know of another. So the medians are kept beside what is
made for measurements.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from maxim_deploy._files import write_text

FILE = "handoff.json"
KEPT = 50
"""Comparisons per machine: the host of a virtual machine may become another one."""


def recall(folder: Path, machine: str, now_ns: float) -> tuple[float, float] | None:
    """The least and the most of earlier comparisons, to which this one is added.

    Args:
        folder: in which to keep them; if it cannot be written they are not kept.
        machine: as `environment.machine_of` names it.
        now_ns: median of this comparison, nanoseconds.

    Returns:
        None if there is no earlier one.
    """
    kept = _kept(folder / FILE)
    earlier = kept.get(machine, [])
    kept[machine] = [*earlier, now_ns][-KEPT:]
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, json.dumps(kept))
    return (min(earlier), max(earlier)) if earlier else None


def _kept(file: Path) -> dict[str, list[float]]:
    try:
        kept = json.loads(file.read_text("utf-8"))
        return {str(name): [float(ns) for ns in values] for name, values in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
