"""Suites: plans of measurements in a TOML file.

Each table is a plan with the keys of `SuitePlan`. A size is "HxW". A model is a name that
`maxim-export` knows, a variant such as "S-2" (random weights), or a table of an architecture's
fields. Bundles on the command line replace the models. A baseline is "torch", "torch-compile",
"literal", "none" or a rewrite. A precision other than fp32 follows its name: "torch fp16". "each"
stands for every rewrite alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from maxim_deploy.benchmarks.subjects import TORCH, Subject, baseline_subjects
from maxim_deploy.errors import UsageError, unknown
from maxim_deploy.runtime.registry import backend_named, backend_names
from maxim_deploy.spec.architecture import VARIANTS, Architecture
from maxim_deploy.spec.decoding import Reader, read_table, read_toml
from maxim_deploy.spec.models import MODEL_NAMES
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.recipes import chosen

Size = tuple[int, int]

BRACKETS = ("network", "transfer", "image")
"""Brackets that can be timed; see `maxim_deploy.benchmarks.records`."""


@dataclass(frozen=True)
class SuitePlan:
    """A comparison at each size and batch.

    Attributes:
        models: models, each measured alone.
        backends: backends for graphs or engines.
        precisions: precisions to measure.
        baselines: baselines from the same weights. Results of all subjects must agree with the
            first one's.
        sizes: heights and widths of the pictures; the tensor form pads them to multiples of 64.
        batches: pictures per call.
        brackets: brackets to measure, of `BRACKETS`.
        profiles: profiles of engines to build for models without a bundle.
        concurrency: numbers of callers in the test under load; none by default.
        threads: CPU threads of each subject; None for one per core.
        rounds: turns of each subject and bracket.
        least_s: least seconds of all turns of a subject in a bracket.
        longest_s: seconds after which a subject has no further turns in a bracket.
        warmup_s: seconds after which the warm-up stops waiting for stable runs.
        pause_s: seconds of rest after each turn.
        load_s: seconds of each test under load.
    """

    models: tuple[str | Architecture, ...] = ()
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = (FULL,)
    baselines: tuple[Subject, ...] = ()
    sizes: tuple[Size, ...] = ((256, 256),)
    batches: tuple[int, ...] = (1,)
    brackets: tuple[str, ...] = BRACKETS
    profiles: tuple[str, ...] = ()
    concurrency: tuple[int, ...] = ()
    threads: int | None = None
    rounds: int = 7
    least_s: float = 2.0
    longest_s: float = 120.0
    warmup_s: float = 5.0
    pause_s: float = 0.25
    load_s: float = 5.0

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """All subjects, the baselines first."""
        ours = (Subject(name, p) for name in self.backends for p in self.precisions)
        return tuple(dict.fromkeys((*self.baselines, *ours)))

    @property
    def on_gpu(self) -> bool:
        """Whether the baselines run on the GPU, as the backends do."""
        return any(backend_named(name).is_on_gpu for name in self.backends)


def read_suite(path: Path) -> dict[str, SuitePlan]:
    """Read and check a suite. Returns its plans by name.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or a wrong value.
    """
    return read_toml(path, "suite", _plans)


def read_keys(table: dict[str, Any]) -> dict[str, Any]:
    """Checked values for some of the fields of `SuitePlan`.

    Raises:
        UsageError: a key is unknown, or a value wrong.
    """
    return read_table(table, _READERS)


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    """Checked values from the given options of a command.

    Raises:
        UsageError: a value is wrong.
    """
    given = {key: value for key, value in options.items() if value not in (None, ())}
    return read_keys({key: list(v) if isinstance(v, tuple) else v for key, v in given.items()})


def size_from(key: str, value: object) -> Size:
    """A height and width from "HxW".

    Raises:
        UsageError: the text is malformed; the message names `key`.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(value))
    if match is None:
        raise UsageError(f"{key} must be HEIGHTxWIDTH: {value!r}")
    return int(match[1]), int(match[2])


def _plans(tables: dict[str, Any]) -> dict[str, SuitePlan]:
    if not tables or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError("a suite is made of tables, one per plan")
    return {name: _plan(name, table) for name, table in tables.items()}


def _plan(name: str, table: dict[str, Any]) -> SuitePlan:
    try:
        plan = SuitePlan(**read_keys(table))
        if not plan.subjects:
            raise UsageError("there is nothing to measure: name backends or baselines")
        return plan
    except UsageError as error:
        raise UsageError(f"[{name}] {error}") from error


def _model(key: str, value: object) -> str | Architecture:
    known = (*VARIANTS, *MODEL_NAMES)
    if isinstance(value, dict):
        try:
            return Architecture(**value)
        except TypeError as error:
            raise UsageError(f"{key}: a table must be of an architecture: {error}") from error
    if value not in known:
        raise UsageError(f"{key}: {unknown('model', value, known)}")
    return str(value)


def _list(read: Callable[[str, Any], Any]) -> Callable[[str, object], tuple[Any, ...]]:
    def read_all(key: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise UsageError(f"{key} must be a list: {value!r}")
        return tuple(dict.fromkeys(read(key, item) for item in value))

    return read_all


def _backend(_: str, value: str) -> str:
    known = tuple(name for name in backend_names() if name not in TORCH)  # torch is a baseline
    return chosen("backend", [value], known)[0]


def _one_of(known: Collection[str]) -> Callable[[str, str], str]:
    def read(key: str, value: str) -> str:
        return chosen(key.rstrip("s"), [value], known)[0]

    return read


def _baselines(key: str, value: object) -> tuple[Subject, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{key} must be a list: {value!r}")
    return tuple(dict.fromkeys(s for text in value for s in baseline_subjects(str(text))))


def _at_least(low: float, kind: type[int] | type[float]) -> Callable[[str, object], Any]:
    def read(key: str, value: object) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, kind)) or value < low:
            raise UsageError(f"{key} must be {kind.__name__} and at least {low:g}: {value!r}")
        return value

    return read


_READERS: dict[str, Reader] = {
    "models": _list(_model),
    "backends": _list(_backend),
    "precisions": _list(_one_of(PRECISIONS)),
    "baselines": _baselines,
    "sizes": _list(size_from),
    "batches": _list(_at_least(1, int)),
    "brackets": _list(_one_of(BRACKETS)),
    "profiles": _list(lambda _, value: str(value)),
    "concurrency": _list(_at_least(1, int)),
    "threads": _at_least(1, int),
    "rounds": _at_least(1, int),
    "least_s": _at_least(0, float),
    "longest_s": _at_least(1, float),
    "warmup_s": _at_least(0, float),
    "pause_s": _at_least(0, float),
    "load_s": _at_least(0.1, float),
}
assert set(_READERS) == {field.name for field in fields(SuitePlan)}
