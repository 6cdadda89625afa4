"""Scripts in processes of their own, whose memory nothing else has touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

_ATTEMPTS = 3


def run(script: str, *arguments: object, **env: str) -> Any:
    """A script in a process of its own; what it prints as JSON."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environ = {**os.environ, **env}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def measure(holds: Callable[[Any], bool], script: str, *arguments: object, **env: str) -> None:
    """Assert that what a script measures of its own memory holds, in one process of three.

    A process also has pages of files resident: code, and weights. How many come with each that is
    read depends on the system's page cache, and a system that reclaims memory takes them away at
    any time. On a busy machine that moved a peak of 19 MB by 3 MB. A fault of the product is there
    in every process.
    """
    measured = []
    for _ in range(_ATTEMPTS):
        measured.append(run(script, *arguments, **env))
        if holds(measured[-1]):
            return
    raise AssertionError(f"in none of {_ATTEMPTS} processes: {measured}")
