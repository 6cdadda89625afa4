"""What a set of extras brings, and commands run where nothing else can be imported."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement

import maxim_deploy

ROOT = Path(maxim_deploy.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = {
    name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "dev"
}

CHILD = """
import json, sys
from click.testing import CliRunner
from maxim_deploy.cli.group import commands
for args in json.load(sys.stdin):
    result = CliRunner().invoke(commands, args)
    print(json.dumps([args, result.exit_code, result.stdout, result.stderr]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    args: list[str]
    code: int
    out: str
    err: str


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def modules_by_distribution() -> dict[str, set[str]]:
    """The top-level modules of each distribution that is installed here."""
    found: dict[str, set[str]] = {}
    for module, names in importlib.metadata.packages_distributions().items():
        for name in names:
            found.setdefault(normal(name), set()).add(module)
    return found


def distributions_of(requirements: Iterable[str]) -> set[str]:
    """What is installed here of some requirements, and of all that they require."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = normal(wanted.name)
        if name in found or (wanted.marker and not wanted.marker.evaluate()):
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # a library for another machine
        found.add(name)
        for needed in map(Requirement, requires):
            asked = ({"extra": extra} for extra in ("", *wanted.extras))
            if needed.marker is None or any(map(needed.marker.evaluate, asked)):
                needed.marker = None
                waiting.append(needed)
    return found


def modules_of(requirements: Iterable[str]) -> set[str]:
    """The top-level modules of some requirements, and of all that they require."""
    known = modules_by_distribution()
    return set().union(*(known.get(name, set()) for name in distributions_of(requirements)))


def modules_without(extras: Sequence[str]) -> set[str]:
    """The modules installed here that maxim-deploy with these extras does not bring."""
    wanted = [*PROJECT["dependencies"], *(one for name in extras for one in EXTRAS[name])]
    installed = set().union(*modules_by_distribution().values())
    others = installed - modules_of(wanted) - sys.stdlib_module_names
    return {name for name in others if name.isidentifier() and name != "maxim_deploy"}


def run_with(extras: Sequence[str], commands: list[list[str]], folder: Path) -> list[Ended]:
    """Run commands in one process, which can import what the extras bring and no more.

    Its own child processes neither: what is blocked is blocked as Python starts.
    """
    blocked = dict.fromkeys(sorted(modules_without(extras)))
    (folder / "sitecustomize.py").write_text(f"import sys; sys.modules.update({blocked})")
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(commands),
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Ended(*json.loads(line)) for line in done.stdout.splitlines()]
