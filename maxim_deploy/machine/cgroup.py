"""The memory limit of a container: of the control groups that this process is in. Linux only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_in_group() -> int | None:
    """Bytes that this process may still take before its groups' limits; None if they have none.

    File pages that nobody used lately count as free, as they do in the system's `MemAvailable`.
    """
    return min((max(room, 0) for room in _rooms()), default=None)


def _rooms() -> Iterator[int]:
    for group, (limit, usage, reclaimable) in _groups():
        with suppress(OSError, ValueError):  # "max", or no such file: it has no limit
            room = int((group / limit).read_text()) - int((group / usage).read_text())
            yield room + _stat(group / "memory.stat", reclaimable)


def _groups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The groups and those around them: a limit holds for all within."""
    with suppress(OSError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                root, files = (_MOUNT, _V2) if controllers == "" else (_MOUNT / "memory", _V1)
                group = root / path.lstrip("/")
                around = (one for one in (group, *group.parents) if one.is_relative_to(root))
                yield from ((one, files) for one in around)


def _stat(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
