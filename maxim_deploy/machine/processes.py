"""Python processes of our own: started by one set of rules, and how they ended in words."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any


def python_process(*command: object, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `subprocess.run` or `Popen` needs to start this Python with the modules found here.

    Args:
        command: what stands behind `python`, such as "-m", a module's name and its arguments.
        env: variables to set beside those of this process.
    """
    # `-P` and no empty entry: else a `numpy.py` in the current folder would be imported for NumPy.
    path = os.pathsep.join(filter(None, sys.path))
    # Windows would write another encoding to a pipe than to a terminal.
    ours = {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8:backslashreplace"}
    return {
        "args": [sys.executable, "-P", *map(str, command)],
        "env": {**os.environ, **ours, **(env or {})},
        # What a library's own code writes, and is cut off in, is not always UTF-8.
        "encoding": "utf-8",
        "errors": "replace",
    }


def how_it_ended(code: int) -> str:
    """An exit code in words that go behind the name of a process."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"
