"""Memory of this process and of the system: from `/proc` if it exists, else from psutil."""

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
    """Resident memory of this process now."""
    if _STATUS.exists():
        return kibibytes(_STATUS.read_text("utf-8"), "VmRSS") * 1024
    return int(_psutil().Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The peak of this process's resident memory, since its start or since `forget_peak`.

    Raises:
        BackendError: not available on this platform.
    """
    # Not `ru_maxrss` on Linux: a child inherits it, so a small child of a large parent would report
    # the parent's peak.
    if _STATUS.exists():
        return kibibytes(_STATUS.read_text("utf-8"), "VmHWM") * 1024
    if sys.platform == "win32":
        return int(_psutil().Process().memory_info().peak_wset)
    if sys.platform == "darwin":
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS only
    raise BackendError(f"peak memory is not available on this platform, {sys.platform}")


def forget_peak() -> None:
    """Reset `peak_resident_bytes`, so that it covers a run without the loading before it.

    Linux supports this unless its kernel was built without it. On Windows and macOS there is no
    effect.
    """
    with suppress(OSError):
        _CLEAR.write_text("5", "ascii")  # proc(5): resets VmHWM to the present value


def available_bytes() -> int:
    """Memory that this process can take now without swapping.

    The smaller of the system's free memory and what a container's limit allows.
    """
    if not _SYSTEM.exists():
        return int(_psutil().virtual_memory().available)
    system = kibibytes(_SYSTEM.read_text("utf-8"), "MemAvailable") * 1024
    group = available_in_group()
    return system if group is None else min(system, group)


def trim() -> None:
    """Return freed memory to the system.

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
    # A required dependency only on systems without /proc.
    return require("psutil", "bench")
