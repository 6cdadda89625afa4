"""Memory of this process and of the system, as the operating system counts it. Linux only."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from maxim_deploy.errors import BackendError
from maxim_deploy.machine.cgroup import available_in_group

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_SYSTEM = Path("/proc/meminfo")


def resident_bytes() -> int:
    """Memory that this process has resident now.

    Raises:
        BackendError: this system does not tell.
    """
    return _from_status("VmRSS")


def peak_resident_bytes() -> int:
    """The largest memory that this process has had resident, ever or since `forget_peak`.

    On Linux this is VmHWM and not `ru_maxrss`, which a child takes over from the process that
    started it: of a small child of a large parent it reports the parent.

    Raises:
        BackendError: this system does not tell.
    """
    return _from_status("VmHWM")


def forget_peak() -> None:
    """Let `peak_resident_bytes` begin anew, so that it tells of a run and not of loading before it.

    No effect on a system that does not let a process do that (Linux does, unless it was built
    without it).
    """
    with suppress(OSError):
        _CLEAR.write_text("5", "ascii")  # proc(5): resets VmHWM to what is resident now


def available_bytes() -> int | None:
    """Memory that this process could be given now without swapping; None where nobody tells.

    What the system has, and what a container's limit leaves of it.
    """
    if not _SYSTEM.exists():
        return None
    system = kibibytes(_SYSTEM.read_text("utf-8"), "MemAvailable") * 1024
    group = available_in_group()
    return system if group is None else min(system, group)


def _from_status(field: str) -> int:
    if not _STATUS.exists():
        raise BackendError(f"peak memory is measured on Linux only, this is {sys.platform}")
    return kibibytes(_STATUS.read_text("utf-8"), field) * 1024


def kibibytes(text: str, field: str) -> int:
    """The number of a line such as `VmHWM:   1234 kB`, in files of /proc.

    Raises:
        KeyError: there is no such line.
    """
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise KeyError(field)
