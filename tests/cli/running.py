"""Running `maxim-run` with a stand-in for the network, in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

import maxim_deploy
from maxim_deploy.cli.run import run

ROOT = Path(maxim_deploy.__file__).parents[1]
TESTS = Path(__file__).parents[1]


def maxim_run(*args: str) -> Result:
    return CliRunner().invoke(run, ["bundle", *args], catch_exceptions=False)


INVERTING = """
import os, resource, signal, sys
from maxim_deploy import runtime
sys.path.insert(0, {tests!r})
from inverter import Inverter
inverter = Inverter()
runtime.load = inverter.load
{body}
from maxim_deploy.cli.main import run
run()
"""


def child(body: str, *args: str) -> subprocess.CompletedProcess[str]:
    code = INVERTING.format(tests=str(TESTS), body=body)
    return subprocess.run(
        [sys.executable, "-c", code, "bundle", *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
