"""The record of one acceptance run: steps, machine and outcomes.

A file of JSON, one object:

- `format` 1; `created`, UTC; `seconds` that it took, `time_limit_s` that it had
- `environment`, see `maxim_deploy.machine.facts.environment`; `gpus`, how many there are
- `outcomes`, a list: `step`; `model`; `backend`; `outcome`, "passed", "failed" or "could not run";
  `reason`, null if it passed; `numbers`, what the step measured, with the unit in each name, null
  for infinity; `seconds`

It contains no host name, no user and no path, so that it can be published unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxim_deploy._files import write_text
from maxim_deploy._reading import load_json, read_bounded
from maxim_deploy.errors import UsageError
from maxim_deploy.spec.decoding import decoded, encoded

FORMAT = 1
PASSED, FAILED, NOT_RUN = "passed", "failed", "could not run"

_FOLDERS = re.compile(
    r"""(?<=['"])(?:[A-Za-z]:)?[/\\](?:[^/\\'"]+[/\\])+"""
    r"""|(?<![\w:/\\.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'":;,|]+[/\\])+"""
)
"""The folders of an absolute path, without its last part; quoted folders may contain spaces."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one step; the fields are those of the record."""

    step: str
    model: str
    backend: str
    outcome: str
    reason: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        what = f"{self.outcome:<13}  {self.model}  {self.backend}  {self.step}"
        if self.outcome == NOT_RUN:
            return f"{what}: {self.reason}"
        told = [self.reason] if self.reason else [f"{k} {v}" for k, v in self.numbers.items()]
        return f"{what}, {self.seconds:.1f} s: {', '.join(told)}"


@dataclass(frozen=True)
class Record:
    """One acceptance run; the fields are those of the file."""

    created: str
    seconds: float
    time_limit_s: float
    environment: dict[str, Any]
    gpus: int
    outcomes: list[Outcome]
    format: int = FORMAT

    def counts(self) -> dict[str, int]:
        """Count the steps that passed, failed and could not run."""
        found = Counter(outcome.outcome for outcome in self.outcomes)
        return {outcome: found[outcome] for outcome in (PASSED, FAILED, NOT_RUN)}

    def to_json(self) -> str:
        """The content of the file."""
        return json.dumps(encoded(self), indent=1)

    def write(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            write_text(path, self.to_json() + "\n")
        except OSError as error:
            raise UsageError(f"record {str(path)!r} | cannot be written: {error}") from error


def read_record(path: Path) -> Record:
    """Read a record from its file.

    Raises:
        UsageError: it cannot be read, or is of another format.
    """
    try:
        content = load_json(read_bounded(path))
        if content.get("format") != FORMAT:
            raise UsageError(f"record {str(path)!r} | format {content.get('format')} | expected 1")
        record: Record = decoded(Record, content)
    except (OSError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"record {str(path)!r} | is not a record: {error}") from error
    return record


def publishable(text: str) -> str:
    """Return a message with absolute paths shortened to their last part."""
    return _FOLDERS.sub("", text)


def rounded(value: Any) -> Any:
    """Round numbers for a record to four digits; non-finite ones become None."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if not isinstance(value, float):
        return publishable(value) if isinstance(value, str) else value
    return float(f"{value:.4g}") if math.isfinite(value) else None
