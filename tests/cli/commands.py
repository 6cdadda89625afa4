"""Commands in a process of their own, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import maxim_deploy

ROOT = Path(maxim_deploy.__file__).parents[1]
TESTS = Path(__file__).parents[1]

QUICK_EXPORT = """
import traces
from maxim_deploy.export import graphs
traces.keep()
graphs.measured_run_memory = lambda _: None
"""
"""Run before an export that is not about tracing or memory: either takes as long as all others.
Needs the fixture `kept_traces`."""


def command(
    name: str, *arguments: object, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the entry point `name` of `maxim_deploy.cli.main`, and `before` it some Python."""
    script = f"{before}\nfrom maxim_deploy.cli.main import {name}; {name}()"
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", **environment},
    )
