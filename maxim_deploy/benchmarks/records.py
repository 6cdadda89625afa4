"""Records: one line of JSON per subject, size and batch of a run. Lines are only appended.

Names of fields include units. A field is None if it was not measured.

- `schema` 2; `suite`, the plan's name; `run`, the same in all lines of one call; `created`, UTC
- `model`, its name; `architecture`; `size` [H, W] and `batch` of the input
- `subject`, a backend ("onnxruntime") or a baseline: "torch", "torch-compile", "literal" (the plain
  export), "none" (the deployment form without rewrites) or the name of a rewrite (the deployment
  form with only that rewrite)
- `precision`; `runner`, a backend, "torch" or "torch-compile"; `io`, form of the graph; `device`,
  "cpu" or "cuda:0 NAME"; `library` with its version; `threads`
- `timings` by bracket. "network": the network alone, with its input in the memory of its device.
  "transfer": from an array in host memory to another. "image": a call of a `Restorer`, from a uint8
  picture to another. On a CPU "transfer" equals "network", so only "network" is present. Each has:
  `wall` with `count`, `p50_ms`, `p90_ms`, `p95_ms`, `p99_ms`, `mean_ms` and `sd_ms`; `gpu`, the
  same by CUDA events, or None; `rounds_ms`, a list of wall times per round, so that rounds of one
  run can be compared one by one; `images_per_s` and `megapixels_per_s` at the p50; `warmup_runs`,
  and whether they became `stable`
- `start`: `load_s` (imports, reading, deserialization) and `first_call_ms` (with any compilation)
- `memory`: memory of a fresh process that loaded the network and ran it once at the padded `size`.
  `baseline_bytes` before the run; `peak_bytes`, including the peak of loading; `bytes_per_pixel`
  that the run added at its peak; `device_bytes` taken from the GPU, None on a CPU
- `graph`: `nodes`, `transposes`, `live_bytes_per_pixel` and `live_at`, the node of the largest set
- `cost`: cost of the graph; for PyTorch, of the literal graph. `operations_per_pixel` (two per
  multiply-add), `bytes_per_pixel` and `fused_bytes_per_pixel`, per pixel that the network sees.
  The ceilings of this machine, measured in the run: `gflops` of a matrix product and `gbps` of a
  copy. `bound_ms`, the least time of the graph node by node, and its `share` of the network's p50.
  `fused_bound_ms` and `fused_share`, the same if everything except products were free. See
  `maxim_deploy.graph.cost` and `.ceilings`
- `bound`: lower bound of an engine whose traffic is known; this is not a measurement. `gpu`; its
  `gbps` and `gflops`, and their `source`, a data sheet or this machine. `bytes_per_pixel` that the
  layers move and `operations_per_pixel`, both per input pixel. `bound_ms`, the least time of a run;
  `took_ms`, the network's p50; `share`, `bound_ms` over `took_ms`
- `agreement`: comparison `with` the first subject, its `precision`, `max_error` of values in about
  [0, 1], and the `allowed` error; `max_error` is None if it is not finite
- `load`: list of `mode`, `callers`, `offered_per_s` (None in "closed"), `images_per_s`, and
  `latency`, as `wall`; see `maxim_deploy.benchmarks.load`. `load_error`: why some are missing
- `noise`: `spread`, middle half of the rounds' medians over their median, the largest of all
  brackets; `foreign_cpu`, share of the processors that other programs used; `idle_cpu_s`, the most
  processor time that the process used between two of its turns; `handoff_ns`, time of a cache line
  from one processor to the next between the turns, with `median` and the deciles `low` and `high`;
  `handoff_before_ns`, the range of the medians of earlier comparisons on this machine. The last two
  are None on a GPU, and missing in older records
- `warnings`: why the numbers are unreliable; `error`: why there are no numbers
- `environment`: see `environment.environment`; `busy`, busy share of the processors just before
  the run; `gpu_after`, the state of the GPU after the timing

Committed records of schema 1 were converted: one run per round, of the network in float32, and the
rest after each turn as `pause_s` in `noise`. A reader checks types (`record_types` declares them),
that numbers are finite and times positive. It does not check that lines of one run belong together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, get_type_hints

from maxim_deploy._records import append_lines, read_lines
from maxim_deploy.benchmarks.record_types import FIELDS, check_numbers, check_times
from maxim_deploy.errors import UsageError, shown, unknown
from maxim_deploy.spec.decoding import decoded
from maxim_deploy.spec.precision import FULL

SCHEMA = 2


@dataclass(frozen=True)
class Record:
    """One subject at one size and batch in one run; the fields are those of the file."""

    suite: str
    run: str
    created: str
    model: str
    architecture: str
    subject: str
    runner: str
    precision: str
    size: tuple[int, int]
    batch: int
    threads: int | None
    environment: dict[str, Any]
    io: str | None = None
    device: str | None = None
    library: str | None = None
    timings: dict[str, dict[str, Any]] = field(default_factory=dict)
    start: dict[str, float] | None = None
    memory: dict[str, Any] | None = None
    graph: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    bound: dict[str, Any] | None = None
    agreement: dict[str, Any] | None = None
    load: list[dict[str, Any]] = field(default_factory=list)
    load_error: str | None = None
    noise: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    schema: int = SCHEMA

    @property
    def label(self) -> str:
        """The subject with its precision, unless that is float32."""
        return self.subject if self.precision == FULL else f"{self.subject} {self.precision}"

    @property
    def failures(self) -> list[str]:
        """Reasons for missing measurements."""
        return [text for text in (self.error, self.load_error) if text]

    @property
    def handoff_ns(self) -> float | None:
        """Median time of a cache line from one processor to the next; None if unknown."""
        found: float | None = self.at("noise", "handoff_ns", "median")
        return found

    def at(self, field: str, *keys: str) -> Any:
        """The value at these keys of a field such as `timings`; None if a key is missing."""
        value = getattr(self, field)
        for key in keys:
            value = value.get(key) if value else None
        return value

    def medians_ms(self, bracket: str) -> list[float]:
        """The median of each round."""
        return [median(turn) for turn in self.timings[bracket]["rounds_ms"]]


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append records to a file, which is made if it is missing.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_lines(path, map(asdict, records))
    except OSError as error:
        raise UsageError(f"records {str(path)!r} | cannot be written: {error}") from error


def line_of(record: Record) -> str:
    """A record as one line of JSON."""
    return json.dumps(asdict(record))


def read_records(path: Path) -> list[Record]:
    """Read a file of records; the inverse of `append_records`.

    Raises:
        UsageError: the file cannot be read, or a line is not a record; the message has its number.
    """
    return read_lines(path, "records", _record)


def _record(members: dict[str, Any]) -> Record:
    if members.get("schema", SCHEMA) != SCHEMA:
        raise UsageError(f"schema {shown(members['schema'])}, this version reads {SCHEMA}")
    if others := members.keys() - _TYPES.keys():
        raise UsageError(unknown("key", min(others), _TYPES))
    check_numbers(members, "record")
    record = Record(**{name: decoded(_TYPES[name], value, name) for name, value in members.items()})
    check_times(record.timings)
    sizes = [record.size, *([record.memory["size"]] if record.memory else [])]
    if any(len(size) != 2 or min(size) < 1 for size in sizes) or record.batch < 1:
        raise ValueError("sizes must be two positive integers, and the batch positive")
    return record


_TYPES = get_type_hints(Record) | FIELDS
