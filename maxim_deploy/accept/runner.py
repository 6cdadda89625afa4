"""Runs each step in a separate process with a time limit; a failure does not stop the rest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maxim_deploy.accept.child import result_of
from maxim_deploy.accept.models import Model
from maxim_deploy.accept.plan import STEPS, Step
from maxim_deploy.accept.record import FAILED, NOT_RUN, PASSED, Outcome, Record, publishable
from maxim_deploy.accept.step import Setting
from maxim_deploy.errors import BundleError
from maxim_deploy.machine.facts import environment
from maxim_deploy.machine.gpu import find_gpu, no_gpu
from maxim_deploy.machine.processes import how_it_ended, python_process
from maxim_deploy.runtime.doctor import verdict_from_process
from maxim_deploy.runtime.registry import BACKENDS, BackendSpec
from maxim_deploy.runtime.verdict import PIP_LINE, Verdict
from maxim_deploy.spec.bundle import Bundle

FAREWELL_S = 10.0
"""Seconds to wait for the end of a killed process; one that waits for a driver may never end."""

TIME_IS_UP = "the time limit of the whole run was reached"

EXPORT = "export"
"""The step that makes a bundle; it runs in this process."""


@dataclass(frozen=True)
class Machine:
    """The state of each backend on this machine, and the number of GPUs."""

    verdicts: dict[str, Verdict]
    gpus: int

    def lacks(self, step: Step, spec: BackendSpec) -> str | None:
        """Return why a step cannot run on a backend here; None if nothing is missing.

        An installed library that does not work is no reason: the step must show it.
        """
        verdict = self.verdicts[spec.name]
        if verdict.install:
            return f"{verdict.reason}{PIP_LINE}{verdict.install}"
        if step.gpus == 0:
            return None if verdict.builds_engines or self.gpus else verdict.reason
        if spec.is_on_gpu and self.gpus == 0:
            return no_gpu()
        if spec.is_on_gpu and self.gpus < step.gpus:
            return f"this machine has {self.gpus} GPU | the step needs {step.gpus}"
        return None


def machine_at_hand() -> Machine:
    """Try every backend; takes seconds."""
    gpus = 0
    while find_gpu(gpus) is not None:
        gpus += 1
    names = [spec.name for spec in BACKENDS]
    with ThreadPoolExecutor() as pool:
        return Machine(dict(zip(names, pool.map(verdict_from_process, names), strict=True)), gpus)


def accept(
    models: Sequence[Model],
    machine: Machine,
    *,
    only: Sequence[str] = (),
    limit_s: float,
    tell: Callable[[Record], object] = lambda _: None,
) -> Record:
    """Run all steps, or some, on all models.

    Args:
        models: models to run them on, the most important first.
        machine: this machine.
        only: names of steps; empty for all.
        limit_s: seconds for the whole run. Later steps could not run.
        tell: called after each step with the record so far; its last outcome is the new one.
    """
    begin, created = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    steps = [step for step in STEPS if not only or step.name in only]
    record = Record(created, 0.0, limit_s, environment(), machine.gpus, [])
    for model in models:
        for outcome in _on_model(model, machine, steps, begin + limit_s):
            seconds = round(time.monotonic() - begin, 1)
            record = replace(record, seconds=seconds, outcomes=[*record.outcomes, outcome])
            tell(record)
    return record


def _on_model(
    model: Model, machine: Machine, steps: Sequence[Step], deadline: float
) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        # Engines are built into a copy: the user's bundle is not changed.
        bundle = Path(folder) / "bundle"
        made = _made(model, bundle)
        yield made
        if made.outcome != PASSED:
            return
        for spec in BACKENDS:
            for step in steps:
                if step.takes(spec) and (step.is_short or not model.is_large):
                    yield _outcome(step, spec, model.name, machine, bundle, deadline)


def _made(model: Model, bundle: Path) -> Outcome:
    begin = time.monotonic()
    result = result_of(lambda: {"files": len(_copied(model.make(), bundle).manifest.files)})
    seconds = round(time.monotonic() - begin, 1)
    return Outcome(EXPORT, model.name, "", **result, seconds=seconds)


def _copied(bundle: Path, copy: Path) -> Bundle:
    shutil.copytree(bundle, copy)
    return Bundle.open(copy)


def _outcome(
    step: Step, spec: BackendSpec, model: str, machine: Machine, bundle: Path, deadline: float
) -> Outcome:
    reason = machine.lacks(step, spec) or _lacks_engine(step, spec, bundle)
    left = deadline - time.monotonic()
    if reason is None and left <= 0:
        reason = TIME_IS_UP
    if reason:
        return Outcome(step.name, model, spec.name, NOT_RUN, reason)
    begin = time.monotonic()
    result = run_step(step.path, Setting(str(bundle), spec.name), min(step.limit_s, left))
    seconds = time.monotonic() - begin
    # The limit of the whole run ended this step, so there is no verdict on the step.
    if left <= seconds < step.limit_s:
        result = {"outcome": NOT_RUN, "reason": TIME_IS_UP}
    return Outcome(step.name, model, spec.name, **result, seconds=round(seconds, 1))


def _lacks_engine(step: Step, spec: BackendSpec, bundle: Path) -> str | None:
    if spec.runs != "engines" or not step.uses_engine:
        return None
    try:
        engines = Bundle.open(bundle).manifest.engines
    except BundleError as error:  # an earlier step has spoiled the copy
        return publishable(str(error))
    if any(entry.library == spec.name for entry in engines):
        return None
    return f"the bundle has no engine of {spec.name}, because the step `build` made none"


def run_step(function: str, setting: Setting, limit_s: float) -> dict[str, Any]:
    """Call a step's function in a separate process; returns `outcome`, `reason` and `numbers`.

    Args:
        function: "module:function".
        setting: argument of the function.
        limit_s: seconds after which the process, and all that it started, is killed.
    """
    command = python_process(
        "-m", "maxim_deploy.accept.child", function, json.dumps(asdict(setting))
    )
    # A separate process group, so that all processes of the step end with it.
    process = subprocess.Popen(  # our own module
        **command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said, log = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return _failed(f"no answer within {limit_s:.0f} s")
    except BaseException:  # Ctrl-C reaches this process only
        _kill(process)
        raise
    answers = [line for line in said.splitlines() if line.startswith('{"outcome"')]
    if process.returncode or not answers:
        last = publishable(log.strip().splitlines()[-1]) if log.strip() else "without output"
        when = " after its answer" if answers else ""
        return _failed(f"its process {how_it_ended(process.returncode)}{when}: {last}")
    result: dict[str, Any] = json.loads(answers[-1])
    return result


def _kill(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=FAREWELL_S)


def _failed(reason: str) -> dict[str, Any]:
    return {"outcome": FAILED, "reason": reason, "numbers": {}}
