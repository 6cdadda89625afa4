"""What a hand-off took in earlier comparisons on a machine: whether it has more than one state.

A run that lies wholly in one state cannot know of another. So the medians are kept beside what is
made for measurements, a line of JSON each, only ever appended.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

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
    earlier = _kept(folder / FILE, machine)[-KEPT:]
    line = json.dumps({"machine": machine, "handoff_ns": now_ns})
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    return (min(earlier), max(earlier)) if earlier else None


def _kept(file: Path, machine: str) -> list[float]:
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # not a line of ours
            entry = json.loads(line)
            if entry["machine"] == machine:
                found.append(float(entry["handoff_ns"]))
    return found
