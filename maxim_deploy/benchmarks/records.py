"""Records: one line of JSON per subject and run of a suite; only ever appended.

Fields, units in their names; None where something was not measured:

- `schema` 1; `suite`, the plan's name; `run`, the same in all lines of one run; `created`, UTC
- `subject`, `engine`, `library` with its version, `architecture`
- `graph`: `nodes`, `transposes`, `live_bytes_per_pixel` and `live_at`, the node of the largest set
- `time`: `size` [H, W], `threads`, `warmup`, `rounds`, `pause_s`; `seconds`, every round in order,
  rounds of one run are to be compared one by one; `idle_cpu_s`, the most processor time that the
  process used between two of its runs: below `pause_s`, it never took a core from another subject
- `memory`: `size`, `threads`; `baseline_bytes` of the whole process before the run, `peak_bytes`,
  `bytes_per_pixel` that the run added
- `agreement`: `with`, the first subject, and `max_error` of values in about [0, 1]
- `environment`: see `environment.environment`

Not checked on reading: that lines of one run belong together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maxim_deploy.errors import UsageError

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One subject in one run; the fields are those of the file."""

    suite: str
    run: str
    created: str
    subject: str
    engine: str
    library: str
    architecture: str
    graph: dict[str, Any] | None
    time: dict[str, Any]
    memory: dict[str, Any] | None
    agreement: dict[str, Any]
    environment: dict[str, Any]
    schema: int = SCHEMA


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Add lines to a file of records, which is made if need be.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(record)) + "\n" for record in records)
    except OSError as error:
        raise UsageError(f"cannot write records to {str(path)!r}: {error}") from error


def read_records(path: Path) -> list[Record]:
    """The inverse of `append_records`.

    Raises:
        UsageError: a line is not a record of this schema; the message has its number.
    """
    records = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{str(path)!r}, line {number}: not a record: {error}") from error
        if record.schema != SCHEMA:
            raise UsageError(
                f"{str(path)!r}, line {number}: schema {record.schema}, this version reads {SCHEMA}"
            )
        records.append(record)
    return records
