"""Suites: what to measure and how, as a TOML file.

Each table is a plan with the keys of `Plan`; `size` and `memory_size` are "HxW", `architecture` is
a variant's name or a table of its fields. The subject "each" stands for every rewrite alone.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from maxim_deploy.benchmarks.timing import MIN_ROUNDS
from maxim_deploy.errors import UsageError, nearest
from maxim_deploy.export.deployment import REWRITES
from maxim_deploy.spec.architecture import MULTIPLE_OF, Architecture, architecture_of

SUBJECTS = ("pytorch", "literal", "deployment", "none", *REWRITES)
"""PyTorch eager on the literal network; its export; the export of the deployment form with all
rewrites, with none, with one alone."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """One comparison.

    Attributes:
        architecture: of the network; its weights are random.
        subjects: what to compare, each of `SUBJECTS` at most once; the first is the one that the
            results of the others must agree with.
        size: height and width at which time is measured.
        memory_size: the same for peak memory, or None to leave it out.
        threads: of each subject.
        rounds: timings per subject.
        warmup: untimed runs per subject before.
        pause_s: seconds of rest after each run.
    """

    architecture: Architecture
    subjects: tuple[str, ...]
    size: Size
    memory_size: Size | None = None
    threads: int = 2
    rounds: int = 7
    warmup: int = 2
    pause_s: float = 0.25


def read_suite(path: Path) -> dict[str, Plan]:
    """Read and check a suite; its plans by name.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or a wrong value.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        if not tables or not all(isinstance(table, dict) for table in tables.values()):
            raise UsageError("a suite is made of tables, one per plan")
        return {name: _in_table(name, table) for name, table in tables.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, UsageError) as error:
        raise UsageError(f"suite {str(path)!r}: {error}") from error


def _in_table(name: str, table: dict[str, Any]) -> Plan:
    try:
        return _plan(table)
    except UsageError as error:
        raise UsageError(f"[{name}] {error}") from error


def _plan(table: dict[str, Any]) -> Plan:
    for key in table:
        if key not in _READERS:
            raise UsageError(
                f"unknown key {key!r}{nearest(key, _READERS)}; known: {', '.join(_READERS)}"
            )
    needed = [field.name for field in fields(Plan) if field.default is MISSING]
    missing = [key for key in needed if key not in table]
    if missing:
        raise UsageError(f"missing: {', '.join(missing)}")
    return Plan(**{key: _READERS[key](key, value) for key, value in table.items()})


def _architecture(key: str, value: object) -> Architecture:
    if isinstance(value, str):
        return architecture_of(value)
    try:
        assert isinstance(value, dict)
        return Architecture(**value)
    except (AssertionError, TypeError) as error:
        raise UsageError(f"{key} must be a variant or a table of its fields: {value!r}") from error


def _subjects(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{key} must be a list of names")
    chosen: list[str] = []
    for name in value:
        if name not in (*SUBJECTS, "each"):
            hint = nearest(str(name), SUBJECTS)
            raise UsageError(f"unknown subject {name!r}{hint}; known: each, {', '.join(SUBJECTS)}")
        chosen += REWRITES if name == "each" else [name]
    return tuple(dict.fromkeys(chosen))


def _size(key: str, value: object) -> Size:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(value))
    sides = (int(match[1]), int(match[2])) if match else (1, 1)
    if any(side % MULTIPLE_OF for side in sides):
        raise UsageError(f"{key} must be HEIGHTxWIDTH in multiples of {MULTIPLE_OF}: {value!r}")
    return sides


def _at_least(low: float, kind: type[int] | type[float]) -> Any:
    def read(key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, kind)) or value < low:
            raise UsageError(f"{key} must be {kind.__name__} and at least {low:g}: {value!r}")
        return value

    return read


_READERS: dict[str, Any] = {
    "architecture": _architecture,
    "subjects": _subjects,
    "size": _size,
    "memory_size": _size,
    "threads": _at_least(1, int),
    "rounds": _at_least(MIN_ROUNDS, int),
    "warmup": _at_least(1, int),
    "pause_s": _at_least(0, float),
}
