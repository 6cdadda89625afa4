"""Signals in every command: what is begun is cleaned up, and the exit code names the signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import ROOT

COMMAND = """
import click, os, signal, threading
from pathlib import Path
from maxim_deploy._files import atomic_file
from maxim_deploy._folders import atomic_directory
from maxim_deploy.cli import _signals, shell
from maxim_deploy.cli._ending import run_process
_signals.begin_without_signals()
@click.command()
@click.option("--late", callback=lambda *_: {early})
@shell.common_options
def command(late):
    {body}
run_process(command, "command")
"""


def ended(body: str, early: str = "None") -> subprocess.CompletedProcess[str]:
    code = COMMAND.format(body=body.strip(), early=early)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_nothing_half_done_is_left(folder: Path, name: str):
    done = ended(f"""
    with atomic_directory(Path("bundle")) as partial, atomic_file(Path("table.json")) as file:
        (partial / "graph.onnx").touch()
        signal.raise_signal(signal.{name})
    """)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stderr == ("Interrupted\n" if name == "SIGINT" else f"Stopped by {name}\n")
    assert list(folder.iterdir()) == []


def test_an_interruption_that_a_library_turns_into_an_error_shows(folder: Path):
    done = ended("""
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as error:
        raise AttributeError("partially initialized module") from error
    """)
    assert (done.returncode, done.stderr) == (130, "Interrupted\n")


def test_an_interruption_that_a_library_swallows_shows_at_the_next_step(folder: Path):
    done = ended("""
    with shell.report_progress() as progress:
        progress("one")
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            pass
        progress("two")
    """)
    assert (done.returncode, done.stderr) == (143, "one\nStopped by SIGTERM\n")


def test_an_interruption_while_the_command_line_is_read(folder: Path):
    done = ended("pass", early="signal.raise_signal(signal.SIGTERM)")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (143, "Stopped by SIGTERM")


def test_a_signal_at_the_very_end_shows_no_traceback(folder: Path):
    done = ended("threading._register_atexit(signal.raise_signal, signal.SIGINT)")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_signal_among_the_imports_shows_no_traceback():
    code = (
        "import signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': signal.raise_signal(signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from maxim_deploy.cli.main import run; run()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
