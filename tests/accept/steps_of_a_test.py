"""Steps for the runner: such as end well, and such as end their process, or never end."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from maxim_deploy.accept.step import CannotRunError, FaultError, Setting
from maxim_deploy.errors import BackendError, MissingDependencyError


def passes(setting: Setting) -> dict[str, Any]:
    os.write(1, b"a library says something\n")  # past Python's own stdout
    return {"backend": setting.backend, "share": 0.123456, "infinite_db": float("inf")}


def finds_a_fault(_: Setting) -> dict[str, Any]:
    raise FaultError("lanes | differ", differing=3)


def cannot_run(_: Setting) -> dict[str, Any]:
    raise CannotRunError("this PyTorch has no CUDA here")


def lacks_a_library(_: Setting) -> dict[str, Any]:
    raise MissingDependencyError("torch is not installed; run: pip install torch")


def lacks_a_module(_: Setting) -> dict[str, Any]:
    import pycuda  # noqa: F401

    return {}


def raises_ours(_: Setting) -> dict[str, Any]:
    raise BackendError("engine /somewhere/secret/engines/x.engine does not run here")


def raises_anything(_: Setting) -> dict[str, Any]:
    raise ZeroDivisionError("by zero")


def is_killed(_: Setting) -> dict[str, Any]:
    sys.stderr.write("CUDA error 700 in /home/somebody/driver.so\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def exits(_: Setting) -> dict[str, Any]:
    os._exit(3)


def exits_as_if_well(_: Setting) -> dict[str, Any]:
    os._exit(0)


def is_killed_at_its_end(_: Setting) -> dict[str, Any]:
    """As where a library frees what is gone already."""
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    return {"share": 1.0}


def hangs(setting: Setting) -> dict[str, Any]:
    """With a process of its own, whose number it leaves where the bundle would be."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(command)
    Path(setting.bundle).write_text(str(child.pid))
    time.sleep(600)
    return {}
