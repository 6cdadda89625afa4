"""What TensorRT says while it works: which lines matter, what they mean, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MEANINGS = (
    (
        r"CUDA_SUCCESS|cudaError 35|CUDA driver version is insufficient",
        "this step needs an NVIDIA GPU with its driver; TensorRT for RTX builds without one only "
        "engines with their weights inside, for named compute capabilities or the portable default",
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
        "the library builds nothing for this GPU: see its list of compute capabilities",
    ),
    (r"BuildCanceled", "the build was cancelled"),
)

_HARMLESS = (
    (r"Skipping tactic", "one of many ways to compute a layer does not fit here; others do"),
    (r"Thread context has not been set", "about where the library writes its log"),
    (r"getHardwareCompatibilityLevel\(\) is unsupported", "a question the library asks itself"),
    (r"Using PreviewFeature|Unknown embedded device", "about a default of the library"),
    (r"minShape is not the same as maxShape", "a profile with a range, as asked"),
    (r"[Ll]ocal timing cache in use", "no timing cache was asked for"),
)


def meaning(text: str) -> str:
    """What to do about an error of the library; empty if only its own words are known."""
    return next((advice for pattern, advice in _MEANINGS if re.search(pattern, text)), "")


def why_harmless(text: str) -> str:
    """Why a line is harmless; empty if it should be read."""
    return next((reason for pattern, reason in _HARMLESS if re.search(pattern, text)), "")


def nodes_in(text: str) -> list[str]:
    """Names of ONNX nodes in a message: `ForeignNode[a...b]` stands for all from a to b."""
    found = re.findall(
        r"ForeignNode\[([^\]]+)\]|name: ([\w./]+/[\w./]+)|\(([\w.]+/[\w./]+)\)", text
    )
    return [name for groups in found for name in groups if name]


def failure(messages: Iterable[tuple[str, str]]) -> str:
    """One line for people from the errors: what failed, at which node, what to do."""
    errors = [text for severity, text in messages if severity in ("ERROR", "INTERNAL_ERROR")]
    # The library logs some questions that it asks itself as errors.
    errors = [text for text in errors if not why_harmless(text)]
    if not errors:
        return "the library gives no reason; its log may say more"
    nodes = dict.fromkeys(name for text in errors for name in nodes_in(text))
    advice = next(filter(None, map(meaning, errors)), "")
    parts = [errors[0].strip()]
    parts += [f"at ONNX node {', '.join(nodes)}"] if nodes else []
    parts += [f"what to do: {advice}"] if advice else []
    return " | ".join(parts)


def log_text(messages: Iterable[tuple[str, str]]) -> str:
    """The log that is kept beside an engine: errors and warnings, explained, and what is worth it.

    Lines of the level VERBOSE are left out; a line that says the same again is counted.
    """
    counted: dict[tuple[str, str], int] = {}
    for severity, text in messages:
        # Layers, the VERBOSE lines that matter, are kept in a file of their own.
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
    """The bytes that the builder reported, those that it named."""
    figures: dict[str, int] = {}
    for _, text in messages:
        for name, pattern in _MEMORY.items():
            if match := re.search(pattern, text):
                # One line per profile: the largest counts.
                figures[name] = max(figures.get(name, 0), int(match[1]))
    return figures
