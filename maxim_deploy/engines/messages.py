"""Explain TensorRT's messages: which matter, what they mean, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MEANINGS = (
    (
        r"CUDA_SUCCESS|cudaError 35|CUDA driver version is insufficient",
        "this step needs an NVIDIA GPU with its driver; without one, TensorRT for RTX builds "
        "only engines with embedded weights, for named compute capabilities or the portable "
        "default",
    ),
    (
        r"within workspace limit|insufficient workspace|workspace.*not enough",
        "a layer needs more scratch memory: raise the workspace limit, or omit it",
    ),
    (
        r"libnvinfer_lean|nvinfer_lean",
        "version-compatible engines need TensorRT's lean runtime: pip install tensorrt-lean",
    ),
    (
        r"[Oo]ut ?[Oo]f ?[Mm]emory|MEM_ALLOC_FAILED|cudaErrorMemoryAllocation|bad_alloc",
        "memory ran out: lower the largest profile or its batch, or build on an idle machine",
    ),
    (
        r"UNSUPPORTED_CC|[Uu]nsupported SM|compute capability.*not supported",
        "the library does not build for this GPU: see its list of compute capabilities",
    ),
    (r"BuildCanceled", "the build was cancelled"),
)

_HARMLESS = (
    (r"Skipping tactic", "one of several ways to compute a layer does not work here; others do"),
    (r"Thread context has not been set", "it concerns the destination of the library's log"),
    (r"getHardwareCompatibilityLevel\(\) is unsupported", "the library queries itself"),
    (r"Using PreviewFeature|Unknown embedded device", "it concerns a default of the library"),
    (r"minShape is not the same as maxShape", "the profile has a range, as requested"),
    (r"[Ll]ocal timing cache in use", "no timing cache was requested"),
)


def meaning(text: str) -> str:
    """Advice on an error of the library; empty if there is none."""
    return next((advice for pattern, advice in _MEANINGS if re.search(pattern, text)), "")


def why_harmless(text: str) -> str:
    """Why a line is harmless; empty if it matters."""
    return next((reason for pattern, reason in _HARMLESS if re.search(pattern, text)), "")


def nodes_in(text: str) -> list[str]:
    """Names of ONNX nodes in a message. `ForeignNode[a...b]` means all nodes from a to b."""
    found = re.findall(
        r"ForeignNode\[([^\]]+)\]|name: ([\w./]+/[\w./]+)|\(([\w.]+/[\w./]+)\)", text
    )
    return [name for groups in found for name in groups if name]


def failure(messages: Iterable[tuple[str, str]]) -> str:
    """Summarise errors in one line: failure, node, advice."""
    errors = [text for severity, text in messages if severity in ("ERROR", "INTERNAL_ERROR")]
    # The library logs some of its internal queries as errors.
    errors = [text for text in errors if not why_harmless(text)]
    if not errors:
        return "the library gives no reason; read its log"
    nodes = dict.fromkeys(name for text in errors for name in nodes_in(text))
    advice = next(filter(None, map(meaning, errors)), "")
    parts = [errors[0].strip()]
    parts += [f"at ONNX node {', '.join(nodes)}"] if nodes else []
    parts += [f"what to do: {advice}"] if advice else []
    return " | ".join(parts)


def log_text(messages: Iterable[tuple[str, str]]) -> str:
    """The log beside an engine: errors and warnings with explanations, and useful lines.

    Lines of level VERBOSE are omitted. Repeated lines are counted.
    """
    counted: dict[tuple[str, str], int] = {}
    for severity, text in messages:
        # The useful VERBOSE lines, the layers, have their own file.
        if severity != "VERBOSE":
            key = (severity, text.strip())
            counted[key] = counted.get(key, 0) + 1
    lines = []
    for (severity, text), count in counted.items():
        times = f" ({count} times)" if count > 1 else ""
        lines.append(f"{severity}: {text}{times}")
        note = f"harmless: {why_harmless(text)}" if why_harmless(text) else meaning(text)
        if note and severity != "INFO":
            lines.append(f"    {note}")
    return "\n".join(lines) + "\n"


_MEMORY = {
    "activation_bytes": r"Total Activation Memory: (\d+) bytes",
    "scratch_bytes": r"Max Scratch Memory: (\d+) bytes",
    "weights_bytes": r"Total Weights Memory: (\d+) bytes",
    "host_bytes": r"Total Host Persistent Memory: (\d+) bytes",
    "device_bytes": r"Total Device Persistent Memory: (\d+) bytes",
}


def memory_figures(messages: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Memory sizes that the builder reported."""
    figures: dict[str, int] = {}
    for _, text in messages:
        for name, pattern in _MEMORY.items():
            if match := re.search(pattern, text):
                # There is a line per profile. The largest counts.
                figures[name] = max(figures.get(name, 0), int(match[1]))
    return figures
