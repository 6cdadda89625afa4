"""The machine and the software that a record was measured on.

No host name, no user, no path: a record can be published as it is.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from maxim_deploy._memory import kibibytes
from maxim_deploy._version import __version__

LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")

_PACKAGE = Path(__file__).parents[1]


def environment() -> dict[str, Any]:
    """What a reader needs to judge a measurement, None where this system does not tell.

    Returns:
        `cpu`, its model; `cpus`, those that the process may use; `ram_bytes`; `os`; `python`;
        `libraries`, versions by name; `load_average_1m` at this moment; `commit` of the checkout,
        with "-dirty" where tracked files differ.
    """
    return {
        "cpu": _cpu_model(),
        "cpus": _usable_cpus(),
        "ram_bytes": _ram_bytes(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": library_versions(),
        "load_average_1m": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
    }


def library_versions() -> dict[str, str]:
    """Versions of the libraries that are installed, and of this package."""
    versions = {"maxim-deploy": __version__}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_model() -> str | None:
    info = Path("/proc/cpuinfo")
    for line in info.read_text("utf-8").splitlines() if info.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or None


def _usable_cpus() -> int | None:
    # A container may own fewer than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _ram_bytes() -> int | None:
    info = Path("/proc/meminfo")
    return kibibytes(info.read_text("utf-8"), "MemTotal") * 1024 if info.exists() else None


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run(  # noqa: S603  # no argument comes from outside
        [git, "-C", str(_PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None
