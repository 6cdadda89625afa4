"""Would an engine run on this machine, and if not, why not?"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from maxim_deploy.engines.building import known_targets
from maxim_deploy.errors import MissingDependencyError
from maxim_deploy.machine.gpu import Gpu
from maxim_deploy.machine.tensorrt import collecting_logger, load_library
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engines import PORTABLE, EngineEntry


def reasons_against(entry: EngineEntry, path: Path, gpu: Gpu | None) -> list[str]:
    """Why an engine would not run here; empty if it would.

    What can be told without a GPU is told without one. With one, TensorRT for RTX's own answer
    counts as well.

    Args:
        entry: from the manifest.
        path: its file, whose hash the caller has checked.
        gpu: the GPU at hand, or None.
    """
    reasons = []
    try:
        trt = load_library(entry.library)
    except MissingDependencyError as error:
        trt = None
        reasons.append(str(error))
    if trt is not None and not _version_fits(entry, trt.__version__):
        reasons.append(
            f"built by {entry.library} {entry.version}, installed is {trt.__version__}: build it "
            "again, or install that version"
        )
    system, built_on = platform.system().lower(), str(entry.made_of.get("system"))
    if not is_portable(entry.library) and not built_on.startswith(system):
        reasons.append(f"built on {built_on}, this is {system}")
    if gpu is None:
        return [*reasons, "no NVIDIA GPU or driver here"]
    if not _is_for(entry, gpu.compute_capability, trt):
        reasons.append(
            f"built for compute capability {', '.join(entry.targets)}; {gpu.name} has "
            f"{gpu.compute_capability}"
        )
    if trt is not None and not reasons and is_portable(entry.library):
        reasons += _librarys_answer(trt, path)
    return reasons


def _version_fits(entry: EngineEntry, installed: str) -> bool:
    if entry.made_of.get("version_compatible"):
        return entry.version.split(".")[0] == installed.split(".")[0] and _numbers(
            entry.version
        ) <= _numbers(installed)
    return entry.version == installed


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def runs_on(entry: EngineEntry, compute_capability: str) -> bool:
    """Whether an engine is for GPUs of a compute capability.

    Where the library is not installed, an engine for all of them may be said to run on too many.
    """
    try:
        trt = load_library(entry.library)
    except MissingDependencyError:
        trt = None
    return _is_for(entry, compute_capability, trt)


def _is_for(entry: EngineEntry, compute_capability: str, trt: Any) -> bool:
    if entry.targets != (PORTABLE,):
        return compute_capability in entry.targets
    is_ampere = _numbers(compute_capability) >= [8, 0]
    if is_portable(entry.library) and trt is not None:
        return is_ampere and compute_capability in known_targets(trt)
    return is_ampere


def _librarys_answer(trt: Any, path: Path) -> list[str]:
    """What TensorRT for RTX has against a file; it reads the header only."""
    runtime = trt.Runtime(collecting_logger(trt))
    validity, diagnostics = runtime.get_engine_validity(path.read_bytes())
    if validity == trt.EngineValidity.VALID:
        return []
    known = trt.EngineInvalidityDiagnostics.__members__
    named = [name for name, value in known.items() if int(diagnostics) & int(value)]
    return [f"TensorRT for RTX says {validity.name}: {', '.join(named) or diagnostics}"]
