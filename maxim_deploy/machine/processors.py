"""The processors that this process may use, which can be fewer than the machine has."""

from __future__ import annotations

import os

from maxim_deploy.machine.cgroup import processors_in_group


def usable_processors() -> int:
    """The least of the machine's processors, the process's affinity and the container's quota."""
    quota = processors_in_group()
    return visible_processors() if quota is None else min(visible_processors(), quota)


def threads_to_ask_for(chosen: int | None = None) -> int:
    """The number of threads for a library's pool, or 0 to let the library choose.

    Libraries count the processors that they see, and take a container's quota for none of theirs.
    More threads than the quota fills wait for each other: each period the group is stopped when
    its time is used up, whichever thread the others wait for.

    Args:
        chosen: what the user asked for; None for one per processor.
    """
    usable = usable_processors()
    # Without a quota the library's own choice stays: it knows physical cores, and pins threads.
    return chosen or (usable if usable < visible_processors() else 0)


def visible_processors() -> int:
    """Those that the process may run on, whatever a quota lets it use of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
