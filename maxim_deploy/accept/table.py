"""A Markdown table of results from records.

python -m maxim_deploy.accept.table benchmarks/results/accepted/*.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from maxim_deploy.accept.plan import STEPS, Step
from maxim_deploy.accept.record import FAILED, NOT_RUN, Outcome, Record, read_record
from maxim_deploy.machine.facts import machine_of
from maxim_deploy.runtime.registry import BACKENDS, BackendSpec

NOT_YET = "not yet"


def table_of(records: Sequence[Record]) -> str:
    """Return a table with a row per step and a column per backend, and list the machines below it.

    A cell names the machines on which the step passed and failed, or says "not yet". It is empty if
    the step does not apply to the backend.
    """
    heads = ["step", "what it does", *(spec.label for spec in BACKENDS)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    lines += [
        _row([f"`{step.name}`", step.does, *(_cell(step, spec, records) for spec in BACKENDS)])
        for step in STEPS
    ]
    machines = [f"{number}. {_machine(record)}" for number, record in enumerate(records, start=1)]
    return "\n".join([*lines, "", "Machines:", "", *machines])


def _cell(step: Step, spec: BackendSpec, records: Sequence[Record]) -> str:
    if not step.takes(spec):
        return ""
    passed, failed = list[str](), list[str]()
    for number, record in enumerate(records, start=1):
        ran = [one for one in record.outcomes if _is_of(one, step, spec)]
        if ran:
            broken = any(one.outcome == FAILED for one in ran)
            (failed if broken else passed).append(str(number))
    parts = [f"passed on {', '.join(passed)}"] if passed else []
    parts += [f"failed on {', '.join(failed)}"] if failed else []
    return "; ".join(parts) or NOT_YET


def _is_of(outcome: Outcome, step: Step, spec: BackendSpec) -> bool:
    is_here = (outcome.step, outcome.backend) == (step.name, spec.name)
    return is_here and outcome.outcome != NOT_RUN


def _machine(record: Record) -> str:
    facts = record.environment
    libraries = facts["libraries"]
    named = [
        f"{spec.package} {libraries[spec.package]}"
        for spec in BACKENDS
        if spec.package in libraries
    ]
    models = dict.fromkeys(outcome.model for outcome in record.outcomes)
    gpu = "" if facts.get("gpu") else ", no GPU"
    return (
        f"{machine_of(facts)}{gpu}; {facts['os']}, Python {facts['python']}, {', '.join(named)}; "
        f"{', '.join(models)}; {record.created[:10]}, {record.seconds:.0f} s"
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(table_of([read_record(Path(name)) for name in sorted(sys.argv[1:])]) + "\n")
