"""Processes of our own: what they import, what they write, how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maxim_deploy.machine.processes import how_it_ended, python_process


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**python_process(*command, **options), capture_output=True, check=False)


def test_it_finds_what_is_found_here_but_nothing_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, beside = tmp_path / "here", tmp_path / "beside"
    for folder in (here, beside):
        folder.mkdir()
    (here / "numpy.py").write_text("raise SystemExit('this is not NumPy')")
    (beside / "found_beside.py").write_text("print('found')")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend("")  # as of an interactive Python
    monkeypatch.syspath_prepend(str(beside))
    done = run("-c", "import numpy, maxim_deploy.machine, found_beside")
    assert (done.stdout, done.returncode) == ("found\n", 0), done.stderr


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_PARENT", "1")
    script = "import os; print(os.environ['OF_THE_PARENT'], os.environ['OF_THE_CHILD'])"
    assert run("-c", script, env={"OF_THE_CHILD": "2"}).stdout == "1 2\n"


def test_any_bytes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    script = r"import os; print('\u00fc\u4e16', flush=True); os.write(2, b'\xff')"
    done = run("-c", script)
    assert (done.stdout, done.stderr) == ("\u00fc\u4e16\n", "\ufffd")


def test_how_it_ended() -> None:
    assert how_it_ended(run("-c", "import os; os._exit(3)").returncode) == "ended with exit code 3"
    assert how_it_ended(0) == "ended with exit code 0"
    assert how_it_ended(-64) in ("was killed by SIGRTMAX", "was killed by signal 64")
    assert how_it_ended(-63) == "was killed by signal 63"
    if sys.platform != "win32":
        code = run("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)").returncode
        assert how_it_ended(code) == f"was killed by {signal.SIGKILL.name}"
