"""Check whether an engine runs on this machine, with reasons and remarks."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any

from maxim_deploy.engines.building import known_targets
from maxim_deploy.errors import MissingDependencyError
from maxim_deploy.machine.gpu import Gpu, no_gpu
from maxim_deploy.machine.tensorrt import load_library, quiet_logger
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engines import PORTABLE, EngineEntry


@dataclass
class Validity:
    """Whether an engine would run here.

    Attributes:
        reasons: reasons why it does not run; empty if it runs.
        notes: remarks if it runs.
    """

    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def validity_of(entry: EngineEntry, plan: bytes, gpu: Gpu | None) -> Validity:
    """Whether an engine would run here.

    As much as possible is checked without a GPU. With one, TensorRT for RTX's own answer also
    counts, which applies to this thread's current GPU.

    Args:
        entry: manifest entry of the engine.
        plan: content of its file. The caller has checked its hash.
        gpu: the GPU to run on, or None.
    """
    validity = Validity()
    reasons = validity.reasons
    try:
        trt = load_library(entry.library)
    except MissingDependencyError as error:
        trt = None
        reasons.append(str(error))
    if trt is not None and not _version_fits(entry, trt.__version__):
        reasons.append(
            f"built by {entry.library} {entry.version}, but {trt.__version__} is installed: build "
            "it again, or install that version"
        )
    system, built_on = platform.system().lower(), str(entry.made_of.get("system"))
    if not is_portable(entry.library) and not built_on.startswith(system):
        reasons.append(f"built on {built_on}, but this is {system}")
    if gpu is None:
        reasons.append(no_gpu())
    elif not _is_for(entry, gpu.compute_capability, trt):
        reasons.append(
            f"built for compute capability {', '.join(entry.targets)}; {gpu.name} has "
            f"{gpu.compute_capability}"
        )
    if trt is not None and not reasons and is_portable(entry.library):
        _ask_library(trt, plan, validity)
    return validity


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

    Without the library, the result for a portable engine may include too many GPUs.
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
        known = known_targets(trt)
        # It compiles for a GPU that is newer than it knows, and says "suboptimal".
        is_newer = _numbers(compute_capability) > max(map(_numbers, known))
        return is_ampere and (is_newer or compute_capability in known)
    return is_ampere


def _ask_library(trt: Any, plan: bytes, validity: Validity) -> None:
    """Add TensorRT for RTX's answer about an engine. It reads only the header."""
    answer, diagnostics = trt.Runtime(quiet_logger(trt)).get_engine_validity(plan)
    if answer == trt.EngineValidity.VALID:
        return
    known = trt.EngineInvalidityDiagnostics.__members__
    named = [name for name, value in known.items() if int(diagnostics) & int(value)]
    why = f": {', '.join(named) or diagnostics}" if int(diagnostics) else ""
    said = f"TensorRT for RTX says {answer.name}{why}"
    if answer == trt.EngineValidity.INVALID:
        validity.reasons.append(said)
    else:
        validity.notes.append(f"{said}: it runs, perhaps slower than an engine for this GPU")
