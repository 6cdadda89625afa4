"""The types of the objects within a record, against which a file is checked.

`maxim_deploy.benchmarks.records` explains the fields. Optional fields may be missing in records of
earlier versions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

from maxim_deploy.benchmarks.suite import BRACKETS
from maxim_deploy.errors import shown

_LARGEST = 2.0**60
"""No measurement is larger. A larger number would break later arithmetic and the axes of plots."""


class Times(TypedDict):
    """A summary of times."""

    count: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    sd_ms: float


class Timing(TypedDict):
    """One bracket."""

    wall: Times
    gpu: Times | None
    rounds_ms: list[list[float]]
    images_per_s: float
    megapixels_per_s: float
    warmup_runs: int
    stable: bool | None


class Start(TypedDict):
    """Times of loading and of the first call."""

    load_s: float
    first_call_ms: float


class _Memory(TypedDict):
    size: list[int]
    baseline_bytes: int
    peak_bytes: int
    bytes_per_pixel: float


class Memory(_Memory, total=False):
    """Memory of a process."""

    device_bytes: int | None


class Graph(TypedDict):
    """Counts of a graph."""

    nodes: int
    transposes: int
    live_bytes_per_pixel: float
    live_at: str


class Cost(TypedDict):
    """Least cost of a graph."""

    operations_per_pixel: float
    bytes_per_pixel: float
    fused_bytes_per_pixel: float
    gflops: float
    gbps: float
    bound_ms: float
    fused_bound_ms: float
    share: float
    fused_share: float


class Bound(TypedDict):
    """Least time of an engine."""

    gpu: str
    source: str
    gbps: float
    gflops: float
    bytes_per_pixel: float
    operations_per_pixel: float
    bound_ms: float
    took_ms: float
    share: float


# In functional form, because the key "with" is a keyword of Python.
Agreement = TypedDict(
    "Agreement",
    {"with": str, "precision": str, "max_error": float | None, "allowed": float},
)


class Load(TypedDict):
    """One test under load."""

    mode: str
    callers: int
    offered_per_s: float | None
    images_per_s: float
    latency: Times


class Noise(TypedDict, total=False):
    """How reliable the times are."""

    spread: float | None
    foreign_cpu: float | None
    idle_cpu_s: float | None
    handoff_ns: dict[str, float] | None
    handoff_before_ns: list[float] | None


class Gpu(TypedDict):
    """The GPU; only its name is checked."""

    name: str


class _Environment(TypedDict):
    cpu: str | None
    cpus: int
    libraries: dict[str, str]
    load_average_1m: float | None
    commit: str | None


class Environment(_Environment, total=False):
    """The machine."""

    cpu_id: str | None
    ram_bytes: int
    os: str
    python: str
    busy: float | None
    gpu: Gpu | None


FIELDS: dict[str, Any] = {
    "environment": Environment,
    "timings": dict[str, Timing],
    "start": Start | None,
    "memory": Memory | None,
    "graph": Graph | None,
    "cost": Cost | None,
    "bound": Bound | None,
    "agreement": Agreement | None,
    "load": list[Load],
    "noise": Noise | None,
}
"""Types by field of `Record`; the other fields have the types that `Record` declares."""


class _Parity(TypedDict):
    a: str
    b: str


class Parity(_Parity, total=False):
    """The fields of a line of `maxim-parity --json` that a report shows."""

    image: str | None
    max_error_levels: float | None
    mean_error_levels: float | None
    p999_error_levels: float | None
    psnr: float | None
    ssim: float | None
    threshold: str | None
    passed: bool | None
    faults: list[str] | None


def check_numbers(value: Any, where: str) -> None:
    """Check every number within lists and dicts.

    Raises:
        ValueError: a number is not finite, or larger than any measurement.
    """
    if isinstance(value, dict):
        for key, one in value.items():
            check_numbers(one, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            check_numbers(one, f"{where}[{number}]")
    elif isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{where} must be finite and at most 2**60 in size")


def check_times(timings: Mapping[str, Any]) -> None:
    """Check the times that ratios are computed from.

    Raises:
        ValueError: an unknown bracket, no round, a round without a run, or no positive time.
    """
    for bracket, timing in timings.items():
        if bracket not in BRACKETS:
            raise ValueError(f"timings has {shown(bracket)}; expected {', '.join(BRACKETS)}")
        rounds = timing["rounds_ms"]
        if not rounds or not all(rounds):
            raise ValueError(f"timings.{bracket}.rounds_ms must have rounds, each with a run")
        times = [time for one in rounds for time in one] + [timing["wall"]["p50_ms"]]
        if not all(time > 0 and math.isfinite(time) for time in times):
            raise ValueError(f"timings.{bracket} must have times above 0")
