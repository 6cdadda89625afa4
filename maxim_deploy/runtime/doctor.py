"""Examine this machine: GPU, libraries, and a trial of every backend."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from maxim_deploy._optional import ENVIRONMENT, installed_version, require
from maxim_deploy._version import __version__
from maxim_deploy.machine.gpu import Gpu, find_gpu, why_no_gpu
from maxim_deploy.machine.onnxruntime import telemetry
from maxim_deploy.machine.processes import how_it_ended, python_process
from maxim_deploy.runtime.registry import BACKENDS, offered_names
from maxim_deploy.runtime.verdict import Verdict

LIBRARIES = {spec.package: spec.extra for spec in BACKENDS if spec.package} | {
    "cuda-bindings": "rtx",
    "pycuda": "pycuda",
    "onnx": "export",
    "imagecodecs": "hdr",
    "tifffile": "hdr",
    "av": "video",
}
"""Optional packages by pip name, with the extra that installs them."""

_TWINS = {"onnxruntime": "onnxruntime-gpu", "onnxruntime-gpu": "onnxruntime"}
"""Packages that share a module name."""

_PATIENCE_S = 120.0
_LOG_LINES = 10


@dataclass(frozen=True)
class Report:
    """The findings of `examine`. The fields are those of `maxim-doctor --json`.

    Attributes:
        maxim_deploy: our version.
        python: version and implementation.
        system: operating system, its version and the processor architecture.
        gpu: the first NVIDIA GPU, or None.
        driver: version of the NVIDIA driver, or None.
        libraries: version of each of `LIBRARIES`, or None if not installed.
        problems: problems of the whole installation, each with a command that fixes it.
        backends: a verdict on each backend.
        telemetry: what ONNX Runtime reports to its maker if maxim-deploy imports it, in words.
        no_gpu: why there is no GPU; empty if there is one.
    """

    maxim_deploy: str
    python: str
    system: str
    gpu: Gpu | None
    driver: str | None
    libraries: dict[str, str | None]
    problems: list[str]
    backends: list[Verdict]
    telemetry: str = ""
    no_gpu: str = ""

    @property
    def some_backend_works(self) -> bool:
        """Whether at least one backend works."""
        return any(backend.works for backend in self.backends)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`."""
        return asdict(self)


def examine() -> Report:
    """Examine this machine and try every backend. It takes a few seconds."""
    libraries = {name: installed_version(name) for name in LIBRARIES}
    gpu = find_gpu()
    with ThreadPoolExecutor() as pool:
        # Backends of other packages are imported only in the process that tries them.
        names = [spec.name for spec in BACKENDS if spec.probe] + [*offered_names()]
        backends = list(pool.map(verdict_from_process, names))
    return Report(
        maxim_deploy=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=platform.platform(),
        gpu=gpu,
        driver=_driver_version(),
        libraries=libraries,
        problems=_problems(libraries, gpu),
        backends=backends,
        telemetry=_telemetry(libraries),
        no_gpu="" if gpu else why_no_gpu(),
    )


def verdict_from_process(name: str) -> Verdict:
    """Try a backend in a process of its own, with this process's module paths."""
    command = python_process("-m", "maxim_deploy.runtime.probes", name)
    try:
        done = subprocess.run(  # this interpreter
            **command, capture_output=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(name, reason=f"did not answer within {_PATIENCE_S:.0f} s")
    log = "\n".join(done.stderr.strip().splitlines()[-_LOG_LINES:])
    if done.returncode:
        reason = f"the process that tried it {how_it_ended(done.returncode)}"
        return Verdict(name, reason=reason, log=log)
    verdict = Verdict(**json.loads(done.stdout.splitlines()[-1]))
    verdict.log = "" if verdict.works else log
    return verdict


def _driver_version() -> str | None:
    try:
        nvml = require("cuda.bindings.nvml", "rtx")
        nvml.init_v2()
        return str(nvml.system_get_driver_version())
    # cuda-bindings raise a RuntimeError if there is no driver, and any exception if broken.
    except Exception:
        return None


def _telemetry(libraries: dict[str, str | None]) -> str:
    version = libraries["onnxruntime"] or libraries["onnxruntime-gpu"]
    variable, off = ENVIRONMENT["onnxruntime"]
    # As in a process that maxim-deploy starts: this one may not have imported the library.
    told = telemetry(version, {variable: off, **os.environ}) if version else None
    return told or f"none: maxim-deploy sets {variable}={off} before it imports onnxruntime"


def _problems(libraries: dict[str, str | None], gpu: Gpu | None) -> list[str]:
    if not (libraries["onnxruntime"] and libraries["onnxruntime-gpu"]):
        return []
    extra = "gpu" if gpu else "cpu"
    return [
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
        f"run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'maxim-deploy[{extra}]'"
    ]


def report_text(report: Report) -> str:
    """The report as text."""
    lines = [
        f"maxim-deploy  {report.maxim_deploy}",
        f"Python        {report.python}",
        f"system        {report.system}",
        f"GPU           {_gpu_text(report)}",
        f"driver        {report.driver or 'not found'}",
        f"telemetry     {report.telemetry or 'unknown'}",
        "",
        "libraries",
        *(f"  {name:<16}{_library_text(name, report.libraries)}" for name in report.libraries),
        "",
        "backends",
    ]
    for backend in report.backends:
        lines += _backend_lines(backend)
    return "\n".join(lines + [f"\nproblem: {problem}" for problem in report.problems])


def _gpu_text(report: Report) -> str:
    if gpu := report.gpu:
        return (
            f"{gpu.name}, compute capability {gpu.compute_capability}, "
            f"{gpu.memory_bytes / 2**30:.0f} GiB, CUDA up to {gpu.cuda}"
        )
    if not report.libraries["cuda-bindings"]:
        return "unknown without cuda-bindings; run: pip install 'maxim-deploy[rtx]'"
    return f"none found: {report.no_gpu}" if report.no_gpu else "none found"


def _library_text(name: str, versions: dict[str, str | None]) -> str:
    twin = _TWINS.get(name)
    if twin and versions[twin] and not versions[name]:
        return f"not installed; it excludes {twin}"
    return versions[name] or f"not installed: pip install 'maxim-deploy[{LIBRARIES[name]}]'"


def _backend_lines(backend: Verdict) -> list[str]:
    lines = [f"  {backend.name:<18}{'works' if backend.works else f'no: {backend.reason}'}"]
    details = []
    if backend.builds_engines is not None and not backend.works:
        details.append(f"engines can{'' if backend.builds_engines else 'not'} be built here")
    if backend.install:
        details.append(backend.install)
    details += [f"| {line}" for line in backend.log.splitlines()]
    return lines + [f"{'':<20}{detail}" for detail in details]
