"""Memory of this process and of the system: from `/proc` where it is, else from psutil."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError
from maxim_deploy.machine.cgroup import available_in_group

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_SYSTEM = Path("/proc/meminfo")


def resident_bytes() -> int:
    """Memory that this process has resident now."""
    if _STATUS.exists():
        return kibibytes(_STATUS.read_text("utf-8"), "VmRSS") * 1024
    return int(_psutil().Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The largest memory that this process has had resident, ever or since `forget_peak`.

    Raises:
        BackendError: not available on this platform.
    """
    # Not `ru_maxrss` on Linux: a child takes it over from the process that started it, so that a
    # small child of a large parent would report the parent.
    if _STATUS.exists():
        return kibibytes(_STATUS.read_text("utf-8"), "VmHWM") * 1024
    if sys.platform == "win32":
        return int(_psutil().Process().memory_info().peak_wset)
    if sys.platform == "darwin":
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS only
    raise BackendError(f"peak memory is not available on this platform, {sys.platform}")


def forget_peak() -> None:
    """Let `peak_resident_bytes` begin anew, so that it tells of a run and not of loading before it.

    No effect on a system that does not let a process do that. Linux does, unless it was built
    without it. Windows and macOS do not.
    """
    with suppress(OSError):
        _CLEAR.write_text("5", "ascii")  # proc(5): resets VmHWM to what is resident now


def available_bytes() -> int:
    """Memory that this process could be given now without swapping.

    The less of what the system has, and what a container's limit leaves of it.
    """
    if not _SYSTEM.exists():
        return int(_psutil().virtual_memory().available)
    system = kibibytes(_SYSTEM.read_text("utf-8"), "MemAvailable") * 1024
    group = available_in_group()
    return system if group is None else min(system, group)


def trim() -> None:
    """Give memory that was freed back to the system.

    glibc keeps freed blocks of up to 32 MB; other C libraries have no such call.
    """
    release = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if release:
        release(0)


def total_bytes() -> int:
    """Memory of the machine."""
    if not _SYSTEM.exists():
        return int(_psutil().virtual_memory().total)
    return kibibytes(_SYSTEM.read_text("utf-8"), "MemTotal") * 1024


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


def _psutil() -> Any:
    # A base dependency where the system has no /proc, so that Linux stays without it.
    return require("psutil", "bench")
