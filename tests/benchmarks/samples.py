"""Records to read, compare and show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.subjects import TORCH
from maxim_deploy.benchmarks.summary import summary, throughput
from maxim_deploy.runtime.registry import backend_names
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.traffic import Part, Traffic

ENVIRONMENT: dict[str, Any] = {
    "cpu": "Z80", "cpu_id": "Zilog 8 0 1", "cpus": 2, "load_average_1m": 0.1,
    "libraries": {"onnx": "1.18"}, "gpu": None, "commit": "abc",
}  # fmt: skip


def handoff(ns: float) -> dict[str, Any]:
    """`noise` of a record whose processors were so far from each other."""
    return {"spread": 0.01, "handoff_ns": {"low": ns - 5, "median": ns, "high": ns + 5}}


def timing(rounds_ms: Sequence[Sequence[float]], gpu: bool = False) -> dict[str, Any]:
    wall = summary([ms for turn in rounds_ms for ms in turn])
    return {
        "wall": wall,
        "gpu": wall if gpu else None,
        "rounds_ms": [list(turn) for turn in rounds_ms],
        **throughput(wall["p50_ms"], 256, 256),
        "warmup_runs": 3,
        "stable": True,
    }


TRAFFIC = Traffic(
    Shape(1, 60, 128), 5, 1, 70.0, 0.4, 0.2, 1000,
    {"multi-axis gMLP": Part(4, 60.0), "output": Part(1, 10.0)}, {"matrix product": Part(5, 70.0)},
)  # fmt: skip

BOUND: dict[str, Any] = {
    "gpu": "NVIDIA L4", "source": "NVIDIA L4 data sheet", "gbps": 300, "gflops": 121e3,
    "bytes_per_pixel": 70.0, "operations_per_pixel": 1000.0, "bound_ms": 2.5, "took_ms": 10.0,
    "share": 0.25,
}  # fmt: skip


def record(subject: str = "literal", *medians_ms: float, **changes: Any) -> Record:
    """A record with one run per round."""
    rounds = [[ms] for ms in medians_ms or (1000, 1200, 1000, 2000, 1100)]
    fields: dict[str, Any] = {
        "suite": "deployment",
        "run": "0123456789ab",
        "created": "2026-01-02T03:04:05+00:00",
        "model": "S-1 random",
        "architecture": "S-1",
        "subject": subject,
        "runner": subject if subject in (*backend_names(), *TORCH) else "onnxruntime",
        "precision": "fp32",
        "size": (256, 256),
        "batch": 1,
        "threads": 2,
        "environment": ENVIRONMENT,
        "io": "tensor",
        "device": "cpu",
        "library": "onnxruntime 1.22",
        "timings": {"network": timing(rounds)},
        "noise": {"spread": 0.1, "foreign_cpu": 0.0, "idle_cpu_s": 0.01},
    }
    return Record(**fields | changes)
