"""A bundle's `export.json`: measurements and dates of the export.

It lies beside the manifest and is not part of the bundle's identity. Equal settings on equal
weights give an equal manifest, equal graphs and equal weights, but never an equal `export.json`. A
bundle without it loads, plans memory by typical values, and shows less in `--inspect`.

Format 1, UTF-8 JSON of at most `MOST_BYTES`, one object:

| key | content |
|---|---|
| `format` | 1; a reader refuses another number |
| `bundle` | `digest_of_files` of the manifest that this belongs to |
| `created`, `command` | time in UTC (ISO 8601); the command line, paths without folders |
| `tools` | version of Python and of each library that took part |
| `machine` | `cpu`, `cpu_id`, `cpus`, `ram_bytes`, `os`; see `maxim_deploy.machine.facts` |
| `graphs` | a `GraphRecord` by the graph's file |
| `engines` | an `EngineRecord` by the engine's file |

A reader keeps unknown keys, as with the manifest. It checks types and ranges. It cannot check
whether a number is what was measured.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from maxim_deploy import _reading
from maxim_deploy._reading import load_json
from maxim_deploy.errors import BundleError, shown
from maxim_deploy.spec.decoding import NOT_STORED, decoded, encoded
from maxim_deploy.spec.descriptor import last_component
from maxim_deploy.spec.run_memory import RunMemory
from maxim_deploy.spec.traffic import Traffic

EXPORT_RECORD = "export.json"
FORMAT = 1

MOST_BYTES = 16 * 1024**2
"""The largest file that is read. A record of S-3 with ten engines has less than one megabyte."""

_MOST_MEMORY = 2**50
"""The most bytes that a record may claim for a run: a petabyte."""

_RESULT_BYTES = 3 * 64 * 64 * 4

_PARITY_NUMBERS = ("psnr", "max_levels", "max_error")


@dataclass(frozen=True)
class GraphRecord:
    """Measurements of one graph.

    Attributes:
        parity: differences at export between the graph and its reference, one record per input;
            empty if the check was skipped.
        run_bytes: memory of runs with ONNX Runtime on a CPU: pairs of padded pixels and bytes, the
            smallest first; None if not measured.
        run_bytes_per_pixel: bytes for each pixel beyond the last pair; None if not measured.
        magnitudes: by node of the precision table, the largest magnitude that it read or wrote on
            pictures; None where not measured.
        result: the result of ONNX Runtime on a CPU for `maxim_deploy.imaging.known_picture`:
            float32 `[1, 3, 64, 64]`, little-endian, in base64; None where not computed.
        unknown: what only newer versions say of it, kept on rewriting.
    """

    parity: list[dict[str, Any]] = field(default_factory=list)
    run_bytes: list[list[int]] | None = None
    run_bytes_per_pixel: float | None = None
    magnitudes: dict[str, float | None] = field(default_factory=dict)
    result: str | None = None
    unknown: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_parity(self.parity)
        if self.run_bytes is not None:
            _check_runs(self.run_bytes)
        _check_range("run_bytes_per_pixel", self.run_bytes_per_pixel or 0, 0, _MOST_MEMORY)
        if self.result is not None and len(self.known_result or b"") != _RESULT_BYTES:
            raise ValueError(f"result must be {_RESULT_BYTES} bytes, not {len(self.result)}")

    @property
    def known_result(self) -> bytes | None:
        """The bytes of `result`. Raises ValueError if it is not base64."""
        return None if self.result is None else base64.b64decode(self.result, validate=True)

    def with_result(self, result: bytes | None) -> GraphRecord:
        """This record with the result for the known picture, if it was computed."""
        if result is None:
            return self
        return replace(self, result=base64.b64encode(result).decode("ascii"))

    @property
    def run_memory(self) -> RunMemory | None:
        """The memory of runs; None if not measured."""
        if self.run_bytes is None or self.run_bytes_per_pixel is None:
            return None
        measured = [(pixels, taken) for pixels, taken in self.run_bytes]
        return RunMemory(measured, self.run_bytes_per_pixel)

    def with_run_memory(self, memory: RunMemory | None) -> GraphRecord:
        """This record with a measurement of the memory of runs, if there is one."""
        if memory is None:
            return self
        runs = [list(run) for run in memory.measured]
        return replace(self, run_bytes=runs, run_bytes_per_pixel=memory.bytes_per_pixel)


@dataclass(frozen=True)
class EngineRecord:
    """Measurements and dates of the build of one engine.

    Attributes:
        sha256: SHA-256 of the engine's file. A record with another hash does not apply to the
            engine.
        created: time in UTC (ISO 8601).
        build_seconds: duration of the build.
        built_on: operating system, GPU and driver of the machine; null for no GPU.
        traffic: traffic of its layers. One record per profile, at its tuned size, if bytes were
            counted or the engine takes one size only; otherwise one record with counts of layers.
        unknown: what only newer versions say of it, kept on rewriting.
    """

    sha256: str = ""
    created: str = ""
    build_seconds: float | None = None
    built_on: dict[str, Any] = field(default_factory=dict)
    traffic: list[Traffic] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_time(self.created)
        _check_range("build_seconds", self.build_seconds or 0, 0, 1e9)


@dataclass(frozen=True)
class ExportRecord:
    """The content of `export.json`; see the module for the format.

    Attributes:
        problem: why the file could not be read, or None. With a problem the other fields are empty.
    """

    bundle: str = ""
    created: str = ""
    command: str = ""
    tools: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    graphs: dict[str, GraphRecord] = field(default_factory=dict)
    engines: dict[str, EngineRecord] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)
    problem: str | None = field(default=None, metadata=NOT_STORED)

    def __post_init__(self) -> None:
        _check_time(self.created)

    def to_json(self) -> str:
        """The text of `export.json`."""
        entries = {
            key: {file: encoded(one) for file, one in listed.items()}
            for key, listed in (("graphs", self.graphs), ("engines", self.engines))
        }
        return json.dumps({"format": FORMAT, **encoded(self), **entries}, indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> ExportRecord:
        """The record beside a manifest; an empty record if there is no file.

        It raises no error. A file that is damaged, too large or of another bundle sets `problem`.

        Args:
            folder: of the bundle.
            files: of its manifest.
        """
        path = folder / EXPORT_RECORD
        try:
            if not path.exists():
                return cls()
            record = record_from(strict_json(read_bounded(path)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            return cls(problem=f"{EXPORT_RECORD} is damaged ({shown(error)}): {_ADVICE}")
        except BundleError as error:
            return cls(problem=str(error))
        if record.bundle != digest_of_files(files):
            return cls(problem=f"{EXPORT_RECORD} belongs to another bundle: {_ADVICE}")
        return record


_ADVICE = "delete it (the bundle runs without it), or export the bundle again with --force"


def record_from(document: dict[str, Any]) -> ExportRecord:
    """A record from the JSON object of its file.

    Raises:
        BundleError: another format.
        ValueError, TypeError, KeyError: it is damaged.
    """
    given = dict(decoded(dict[str, Any], document, EXPORT_RECORD))
    if (version := given.pop("format")) != FORMAT:
        raise BundleError(
            f"{EXPORT_RECORD} has format {version!r}; this maxim-deploy reads format {FORMAT}: "
            f"upgrade maxim-deploy, or {_ADVICE}"
        )
    record: ExportRecord = decoded(ExportRecord, given, EXPORT_RECORD)
    return record


def command_without_folders(arguments: Iterable[str]) -> str:
    """A command line without folders of paths, because folders would describe the machine."""
    return shlex.join(map(_without_folders, arguments))


def _without_folders(argument: str) -> str:
    # A path begins after `--option=`, after `-o` as in `-o/tmp/bundle`, or at the start.
    found = re.match(r"--[^=]*=?|-[a-zA-Z]", argument)
    option = found[0] if found else ""
    return option + last_component(argument.removeprefix(option))


def digest_of_files(files: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 of the files that a manifest lists: their names and hashes."""
    listed = sorted((name, record["sha256"]) for name, record in files.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def read_bounded(path: Path) -> str:
    """The text of a file that has at most `MOST_BYTES`.

    Raises:
        OSError: it is not a regular file, is larger, or cannot be read.
        ValueError: it is not UTF-8.
    """
    return _reading.read_bounded(path, MOST_BYTES).decode("utf-8")


def strict_json(text: str) -> Any:
    """The value of a JSON text. NaN and infinities are refused, although Python reads them."""

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"{text} is not a finite number")
        return value

    return load_json(text, parse_constant=number, parse_float=number)


def _check_parity(records: list[dict[str, Any]]) -> None:
    def has(record: dict[str, Any], key: str) -> bool:
        value = record.get(key)
        is_equal = key == "psnr" and key in record and value is None
        return is_equal or (isinstance(value, (int, float)) and not isinstance(value, bool))

    if records and not any(all(has(one, key) for one in records) for key in _PARITY_NUMBERS):
        raise ValueError(f"each record of parity must have one of {', '.join(_PARITY_NUMBERS)}")


def _check_runs(runs: list[list[int]]) -> None:
    if {len(run) for run in runs} != {2}:
        raise ValueError(f"run_bytes must be pairs, not {runs}")
    for pixels, taken in runs:
        _check_range("run_bytes", pixels, 0, _MOST_MEMORY)
        _check_range("run_bytes", taken, 0, _MOST_MEMORY)
    if any(low >= high for (low, _), (high, _) in pairwise(runs)):
        raise ValueError(f"run_bytes must have the fewest pixels first, not {runs}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low} to {high:g}, not {value}")


def _check_time(text: str) -> None:
    if text:
        datetime.fromisoformat(text)
