"""Child processes: common rules for starting Python, and exit codes in words."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any


def python_process(*command: object, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Arguments of `subprocess.run` or `Popen` that start this Python with the same modules.

    Args:
        command: arguments of `python`, such as "-m", a module's name and its arguments.
        env: variables to add to those of this process.
    """
    # `-P` and no empty entry: otherwise a `numpy.py` in the current folder would replace NumPy.
    path = os.pathsep.join(filter(None, sys.path))
    # Windows would use different encodings for a pipe and for a terminal.
    ours = {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8:backslashreplace"}
    return {
        "args": [sys.executable, "-P", *map(str, command)],
        "env": {**os.environ, **ours, **(env or {})},
        # Output of libraries may be cut off or not be UTF-8.
        "encoding": "utf-8",
        "errors": "replace",
    }


def how_it_ended(code: int) -> str:
    """An exit code in words, to follow the name of a process."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"
