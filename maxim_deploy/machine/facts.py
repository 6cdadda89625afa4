"""Facts about machine and software for records.

There is no host name, user or path in them, so a record can be published.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maxim_deploy._optional import installed_version
from maxim_deploy._version import __version__
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.machine.memory import total_bytes
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.machine.sensors import gpu_sensors

LIBRARIES = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-bindings",
    "onnxscript",
    "numpy",
)

_PACKAGE = Path(__file__).parents[1]


def environment() -> dict[str, Any]:
    """What a reader needs to judge a measurement; None where the system does not provide it.

    Returns:
        `cpu`, the model; `cpu_id`, maker, family, model and stepping; `cpus`, number of usable
        processors; `ram_bytes`; `os`; `python`; `libraries`, versions by name; `load_average_1m`,
        the present value; `gpu`, see `gpu_facts`; `commit` of the checkout, with "-dirty" if
        tracked files differ.
    """
    return {
        **machine_facts(),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "load_average_1m": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "gpu": gpu_facts(),
        "commit": _commit(),
    }


def machine_facts() -> dict[str, Any]:
    """`cpu`, `cpu_id`, `cpus`, `ram_bytes` and `os` of `environment`."""
    return {
        "cpu": _from_cpuinfo("model name") or platform.processor() or None,
        "cpu_id": _cpu_id(),
        "cpus": usable_processors(),
        "ram_bytes": total_bytes(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def gpu_facts(device: int = 0) -> dict[str, Any] | None:
    """`name`, `compute_capability`, `memory_bytes`, `cuda`, `driver` and `state`, or None.

    `state` is the present result of `sensors.GpuSensors.read`. `state` and `driver` are None
    without NVML.
    """
    gpu = find_gpu(device)
    if gpu is None:
        return None
    sensors = gpu_sensors(device)
    return {
        **asdict(gpu),
        "driver": sensors.driver if sensors else None,
        "state": sensors.read() if sensors else None,
    }


def machine_of(environment: Mapping[str, Any]) -> str:
    """The hardware that times depend on, in words: model and number of processors, and the GPU.

    Processors of the same name can differ (two kinds of "AMD EPYC" were seen), so family and
    stepping are included.
    """
    gpu = environment.get("gpu")
    parts = [
        environment["cpu"] or "unknown CPU",
        *([f"({environment['cpu_id']})"] if environment.get("cpu_id") else []),
        f"x {environment['cpus']}",
        *([f"and {gpu['name']}"] if gpu else []),
    ]
    return " ".join(parts)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries and of this package."""
    versions = {name: installed_version(name) for name in LIBRARIES}
    return {"maxim-deploy": __version__} | {name: v for name, v in versions.items() if v}


def _from_cpuinfo(field: str) -> str | None:
    info = Path("/proc/cpuinfo")
    for line in info.read_text("utf-8").splitlines() if info.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return None


def _cpu_id() -> str | None:
    facts = [_from_cpuinfo(name) for name in ("vendor_id", "cpu family", "model", "stepping")]
    return " ".join(filter(None, facts)) or None


def _commit() -> str | None:
    # An installed package may lie in a checkout of another project.
    if _git("rev-parse", "--show-toplevel") != str(_PACKAGE.parent):
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(_PACKAGE), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip() or None
