"""The number of processors that this process may use."""

from __future__ import annotations

import os

from maxim_deploy.machine.cgroup import processors_in_group


def usable_processors() -> int:
    """The minimum of the machine's processors, the process's affinity and the container's quota."""
    quota = processors_in_group()
    return visible_processors() if quota is None else min(visible_processors(), quota)


def threads_to_ask_for(chosen: int | None = None) -> int:
    """The number of threads for a library's pool, or 0 to let the library choose.

    Libraries count all processors and ignore a container's quota. With more threads than the quota
    allows, threads wait for each other: the system stops the whole group when its time in a period
    is used up.

    Args:
        chosen: the user's choice; None for one per processor.
    """
    usable = usable_processors()
    # Without a quota the library chooses: it knows the physical cores and pins threads.
    return chosen or (usable if usable < visible_processors() else 0)


def visible_processors() -> int:
    """Processors that the process may run on, without regard to a quota."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
