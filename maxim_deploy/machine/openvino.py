"""OpenVINO on the CPU, with explicit precision and threads."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from maxim_deploy._optional import COMPANIONS, require
from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.machine.processors import threads_to_ask_for
from maxim_deploy.spec.precision import PRECISIONS

DEVICE = "CPU"

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""`INFERENCE_PRECISION_HINT` by our names of precisions."""

_NO_MEMORY = ("bad_alloc", "bad alloc", "Cannot allocate memory", "Failed to allocate")


def openvino() -> ModuleType:
    """The module `openvino`. Raises MissingDependencyError; the message is the pip line."""
    return require("openvino", "openvino")


def telemetry() -> str:
    """What OpenVINO reports to its maker about this process, in words; empty for nothing."""
    if COMPANIONS["openvino"] not in sys.modules:
        return ""
    return (
        "OpenVINO stores an identifier in the home folder and sends events to its maker: it was "
        "imported before maxim-deploy; load the bundle before the first import of openvino, or "
        "run: opt_in_out --opt_out"
    )


def version_of(ov: ModuleType) -> str:
    """OpenVINO's version without the build, such as "2026.4.1"."""
    return str(ov.__version__).partition("-")[0]


def precisions_of(core: Any) -> tuple[str, ...]:
    """The precisions that this processor supports, float32 first."""
    capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in HINTS if PRECISIONS[name].name.upper() in capabilities)


def processor_of(core: Any) -> str:
    """The processor and its precisions, which compiled models depend on."""
    facts = [core.get_property(DEVICE, "FULL_DEVICE_NAME")]
    facts += sorted(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    return " ".join(facts)


def settings_for(precision: str, threads: int | None) -> dict[str, Any]:
    """The properties for compiling.

    Args:
        precision: "fp32" or "bf16".
        threads: threads of one run, or None for one per usable processor.
    """
    settings: dict[str, Any] = {
        # By default OpenVINO uses bfloat16 if the processor has it.
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    if count := threads_to_ask_for(threads):
        settings["INFERENCE_NUM_THREADS"] = count
    return settings


def check_precision(compiled: Any, precision: str) -> None:
    """Raise an error for a model that was compiled for another precision than requested.

    Raises:
        BackendError: the precisions differ.
    """
    found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if found != HINTS[precision]:
        raise BackendError(
            f"OpenVINO computes in {found}, but {HINTS[precision]} was requested: this processor "
            "or this version does not support it; pass precision='fp32' or backend='onnxruntime'"
        )


def read_model(core: Any, graph: Path) -> Any:
    """The `openvino.Model` of an ONNX file with its weights beside it. It maps the weights.

    Raises:
        BackendError: OpenVINO cannot read it.
    """
    try:
        return core.read_model(graph)
    except Exception as error:  # OpenVINO raises RuntimeError for everything
        raise BackendError(f"OpenVINO cannot read {graph.name!r}: {last_line(error)}") from error


def failure(what: str, error: Exception) -> BackendError:
    """Our error for an exception of OpenVINO."""
    text = f"OpenVINO {what}: {last_line(error)}"
    # OpenVINO has no class for running out of memory.
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return OutOfMemoryError(text)
    return BackendError(text)


def last_line(error: Exception) -> str:
    """The last line of OpenVINO's message. The lines before it are places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
