"""Limits of the control groups of this process, such as a container's. Linux only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_in_group() -> int | None:
    """Bytes that this process may still take within its groups' limits; None without a limit.

    Inactive file pages count as free, as in the system's `MemAvailable`.
    """
    return min((max(room, 0) for room in _rooms()), default=None)


def processors_in_group() -> int | None:
    """Processors that the groups' CPU quota allows, rounded up; None without a quota.

    A quota of 1.5 processors runs two threads for most of each period, then none.
    """
    return min(_quotas(), default=None)


def _rooms() -> Iterator[int]:
    for group, is_v2 in _groups("memory"):
        limit, usage, reclaimable = _V2 if is_v2 else _V1
        with suppress(OSError, ValueError):  # "max", or no such file: it has no limit
            room = int((group / limit).read_text()) - int((group / usage).read_text())
            yield room + _stat(group / "memory.stat", reclaimable)


def _quotas() -> Iterator[int]:
    files = {True: ("cpu.max",), False: ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
    for group, is_v2 in _groups("cpu"):
        with suppress(OSError, ValueError):  # "max", or no such file
            text = " ".join((group / name).read_text() for name in files[is_v2])
            quota, period = map(int, text.split())
            # Version 1 writes -1 for no quota.
            if quota > 0 and period > 0:
                yield math.ceil(quota / period)


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """The groups of a controller, and whether they use version 2.

    A limit also applies to all nested groups, so the parents of a group count.
    """
    with suppress(OSError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            is_v2 = controllers == ""
            if is_v2 or controller in controllers.split(","):
                root = _MOUNT if is_v2 else _MOUNT / controller
                group = root / path.lstrip("/")
                around = (one for one in (group, *group.parents) if one.is_relative_to(root))
                yield from ((one, is_v2) for one in around)


def _stat(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
