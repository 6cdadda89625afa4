"""Standard streams that are closed, full, broken, or cannot show a name; and quiet commands."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from cli.running import INVERTING, ROOT, TESTS, child, maxim_run
from click.testing import CliRunner
from inverter import Inverter, files, picture

from maxim_deploy.cli import shell
from maxim_deploy.cli.group import commands
from maxim_deploy.cli.shell import common_options
from maxim_deploy.errors import printable

NAMES = commands.list_commands(click.Context(commands))
FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def shell_run(
    redirections: str, code: str, *args: str, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run Python with streams that a shell redirects, such as `>&-`."""
    command = ["sh", "-c", f'exec "$0" "$@" {redirections}', sys.executable, "-c", code, *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)


def run_redirected(redirections: str, *args: str, **environment: str) -> Any:
    code = INVERTING.format(tests=str(TESTS), body="")
    return shell_run(redirections, code, "bundle", *args, **environment)


@pytest.mark.parametrize("redirections", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_take_nothing_cost_no_result(folder: Path, redirections: str):
    if "full" in redirections and not FULL.exists():
        pytest.skip("needs /dev/full")
    Path("bad.png").write_bytes(b"not an image")
    names = [str(picture(name)) for name in ("a.png", "b.png")]
    done = run_redirected(redirections, *names, "bad.png", "-o", "out")
    assert (done.returncode, files("out")) == (1, ["a.png", "b.png"])
    assert b"Traceback" not in done.stderr


@needs_full
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_behind_stdout_is_one_line_in_every_command(name: str):
    main = "from maxim_deploy.cli.main import main; main()"
    done = shell_run(">/dev/full", main, name, "--help")
    told = b"Error: standard output | cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


@needs_full
def test_a_full_disk_behind_stdout_ends_a_run(folder: Path):
    picture("a.png")
    done = run_redirected(">/dev/full", "a.png", "-o", "out")
    assert done.returncode == 1
    assert done.stderr.count(b"cannot be written: No space left on device") == 1
    assert files("out") == ["a.png"]


def test_a_name_that_stdout_cannot_show_is_escaped(folder: Path):
    names = [str(picture(name)) for name in ("\u5199\u771f.png", "b.png")]
    done = run_redirected("", *names, "-o", "out", PYTHONIOENCODING="cp1252")
    assert (done.returncode, len(files("out"))) == (0, 2)
    assert done.stdout.splitlines() == [rb"out/\u5199\u771f.png", b"out/b.png"]


def test_control_characters_in_names_are_escaped(folder: Path, network: Inverter):
    picture("in/a\x1b[31m\nb\r.png")
    Path("in/c\x9b\u202e\n.png").write_bytes(b"not an image")
    result = maxim_run("in", "-o", "out")
    assert result.stdout == "out/a\\x1b[31m\\nb\\r.png\n"
    failed, summary = result.stderr.splitlines()
    assert failed.startswith(r"failed: image 'in/c\x9b\u202e\n.png' | is damaged")
    assert summary.startswith("1 restored, 1 failed")


def test_printable_text_stays_as_it_is():
    assert printable("caf\u00e9 \u5199\u771f \U0001f468\u200d\U0001f469 \\n") == (
        "caf\u00e9 \u5199\u771f \U0001f468\u200d\U0001f469 \\n"
    )
    assert printable("a\nb\tc\x7f", keep="\n\t") == "a\nb\tc\\x7f"


def ended(body: Any, *flags: str) -> Any:
    """The end of a command whose body is the given function."""

    @click.command()
    @common_options
    def command() -> None:
        body()

    return CliRunner().invoke(command, flags)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "a.png"),
            "'a.png' | File name too long",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError("who knows"), "who knows"),
    ],
)
def test_what_the_system_refuses_is_one_line(error: OSError, told: str):
    def body() -> None:
        raise error

    result = ended(body)
    assert (result.exit_code, result.stderr) == (1, f"Error: {told}\n")
    assert "Traceback" in ended(body, "-vv").stderr


def test_quiet_says_errors_only():
    def body() -> None:
        shell.say("talk")
        with shell.report_progress() as progress:
            progress("a step")
        logging.getLogger("maxim_deploy").warning("careful")
        shell.complain("it broke")
        shell.emit("result")

    quiet, usual = ended(body, "-q"), ended(body)
    assert (quiet.stdout, quiet.stderr) == ("result\n", "it broke\n")
    assert usual.stderr.splitlines()[:2] == ["talk", "a step"]
    assert ended(body, "-q", "-v").stderr == usual.stderr
    assert not shell.is_quiet()


def test_a_quiet_run_says_failures_only(folder: Path, network: Inverter):
    picture("a.png")
    Path("bad.png").write_bytes(b"not an image")
    result = maxim_run("a.png", "bad.png", "-o", "out", "-q")
    assert result.stdout == "out/a.png\n"
    assert result.stderr.startswith("failed: image 'bad.png'")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_every_option(name: str):
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert [one.opts for one in options if not one.help] == []
    assert {"-q", "-v", "--version"} <= {flag for one in options for flag in one.opts}


def test_the_package_is_a_program():
    command = [sys.executable, "-m", "maxim_deploy", "run", "--help"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Usage: maxim-deploy run ")


def test_a_name_that_is_too_long_fails_alone(folder: Path):
    picture("a.png")
    done = child("", "a.png", "b" * 300, "-o", "out")
    assert (done.returncode, done.stdout) == (1, "out/a.png\n")
    assert "cannot be read: File name too long" in done.stderr


def test_a_line_break_in_a_name_begins_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    from maxim_deploy.cli._talk import logging_to_stderr
    from maxim_deploy.errors import quoted

    name = Path("a\nError: b\x1b[2J.png")
    with logging_to_stderr(0):
        logging.getLogger("maxim_deploy.x").warning("image '%s': two\nlines", name)
    line, rest = capsys.readouterr().err.splitlines()
    assert line.endswith(r"image 'a\nError: b\x1b[2J.png': two") and rest == "lines"
    assert quoted(name) == r"'a\nError: b\x1b[2J.png'"
