"""What all commands share: imports, options, and how they end."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import maxim_deploy
from maxim_deploy import MaximDeployError, UsageError
from maxim_deploy.cli.group import commands
from maxim_deploy.cli.shell import common_options, progress_bar, report_progress
from maxim_deploy.jobs.job import FileResult
from maxim_deploy.jobs.progress import FileProgress

HEAVY = ("numpy", "PIL", "rich", "torch", "onnx", "onnxscript", "onnxruntime", "safetensors")


ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(maxim_deploy.__file__).parents[1]),
    "PYTHONIOENCODING": "utf-8",
    "TERM": "xterm",
}
COMMAND = """
import click, os
from pathlib import Path
from maxim_deploy.jobs.progress import FileProgress
from maxim_deploy.cli.shell import common_options, emit, progress_bar, report_progress
@click.command()
@common_options
def command():
    {}
command()
"""


def python(code: str, *args: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """Run code in a child process, with `args` as its command line."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, env=ENVIRONMENT, timeout=60, check=False, **streams)


def ended(body: Callable[[], None]) -> Result:
    """The end of a command whose body is the given function."""

    @click.command()
    @common_options
    def command() -> None:
        body()

    return CliRunner().invoke(command)


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("script", "args", "words"),
    [
        ("main", ["--help"], "Commands:\n  export "),
        ("main", ["run", "--help"], "Usage: maxim-deploy run "),
        ("run", ["--help"], "Usage: maxim-run [OPTIONS] BUNDLE INPUT..."),
        ("export", ["--help"], "Usage: maxim-export [OPTIONS] [MODEL]"),
        ("bench", ["--help"], "Usage: maxim-bench [OPTIONS] BUNDLE..."),
        ("run", ["--version"], f"maxim-deploy {maxim_deploy.__version__}\n"),
        ("main", ["--version"], f"maxim-deploy {maxim_deploy.__version__}\n"),
        ("export", ["--version"], f"maxim-deploy {maxim_deploy.__version__}\n"),
    ],
)
def test_help_and_version_need_nothing_heavy(script: str, args: list[str], words: str):
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))\n"
    done = python(f"{block}from maxim_deploy.cli.main import {script}; {script}()", *args)
    assert (done.returncode, done.stderr) == (0, b"")
    assert words in done.stdout.decode()


@pytest.mark.parametrize(("script", "args"), [("run", []), ("main", ["run"])])
def test_a_script_imports_its_own_command_only(script: str, args: list[str]):
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*(m for m in sys.modules if 'deploy.cli.' in m)))\n"
        f"from maxim_deploy.cli.main import {script}; {script}()"
    )
    done = python(code, *args, "--help")
    modules = done.stdout.decode().splitlines()[-1].split()
    public = sorted(module for module in modules if ".cli._" not in module)
    assert public == [f"maxim_deploy.cli.{name}" for name in ("group", "main", "run", "shell")]


@pytest.mark.xdist_group("measuring")
def test_help_is_quick():
    started = time.perf_counter()
    python("from maxim_deploy.cli.main import main; main()", "run", "--help")
    assert time.perf_counter() - started < 1  # 0.06 s on the machine this was written on


def test_errors_on_purpose_are_a_message_and_an_exit_code():
    for error, code in ((MaximDeployError("it broke"), 1), (UsageError("not so"), 2)):
        result = ended(raising(error))
        assert (result.exit_code, result.stderr) == (code, f"Error: {error}\n")
        assert result.stdout == ""


def test_wrong_usage_exits_with_2():
    for args, words in ((["nope"], "No such command 'nope'"), (["run"], "Missing argument")):
        result = CliRunner().invoke(commands, args)
        assert result.exit_code == 2
        assert words in result.stderr


def test_a_bug_shows_its_traceback_and_asks_for_a_report():
    result = ended(raising(ZeroDivisionError("a bug")))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == [
        "ZeroDivisionError: a bug",
        f"this is a bug in maxim-deploy {maxim_deploy.__version__}; "
        "please report it with the text above",
    ]


def test_interruption_exits_with_130():
    result = ended(raising(KeyboardInterrupt()))
    assert (result.exit_code, result.stderr) == (130, "Interrupted\n")


def test_a_reader_that_leaves_ends_the_command_without_a_word():
    command = [sys.executable, "-c", COMMAND.format("while True: emit('line')")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as child:
        assert child.stdout.readline() == b"line\n"
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_an_error_and_no_bug():
    with Path("/dev/full").open("w") as full:
        done = python(COMMAND.format("emit('line')"), stdout=full)
    assert done.stderr.startswith(b"Error: standard output | cannot be written: No space left")
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1


def test_names_that_are_not_utf8_leave_as_they_came():
    done = python(COMMAND.format(r"emit(os.fsdecode(b'a\xff.png'))"))
    assert done.stdout == b"a\xff.png\n"


@pytest.mark.parametrize(
    ("flags", "shown"),
    [([], "w"), (["-v"], "wi"), (["-vv"], "wid"), (["-v", "--verbose"], "wid")],
)
def test_verbose_shows_more_of_our_own_log(flags: list[str], shown: str):
    @click.command()
    @common_options
    def command() -> None:
        logging.getLogger("somebody.else").debug("x")
        for level, word in ((10, "d"), (20, "i"), (30, "w")):
            logging.getLogger("maxim_deploy.somewhere").log(level, word)

    result = CliRunner().invoke(command, flags)
    assert sorted(line[-1] for line in result.stderr.splitlines()) == sorted(shown)
    assert result.stdout == ""


def test_verbose_counts_before_and_after_the_command_name():
    @click.group()
    @common_options
    def group() -> None:
        pass

    @group.command()
    @common_options
    def child() -> None:
        logging.getLogger("maxim_deploy").debug("deep")
        warnings.warn("careful", stacklevel=1)

    result = CliRunner().invoke(group, ["-v", "child", "-v"])
    assert "DEBUG maxim_deploy: deep" in result.stderr
    assert "UserWarning: careful" in result.stderr
    assert logging.getLogger("maxim_deploy").handlers == []  # nothing outlives the command


def test_progress_away_from_a_terminal_is_a_line_per_step(capsys: pytest.CaptureFixture[str]):
    with progress_bar() as show, report_progress() as say:
        show(FileProgress(Path("a.png"), 0, 3))
        for step in ("fetching: 1 of 2 MB", "fetching: 2 of 2 MB", "working"):
            say(step)
    assert capsys.readouterr() == ("", "fetching\nworking\n")


def test_on_a_terminal_progress_is_on_stderr_and_goes_away():
    body = """
    with progress_bar() as show:
        for done, name in enumerate("ab"):
            show(FileProgress(Path(name), done, 2))
            emit(name)
        show(FileProgress(Path(name), 2, 2))
    with report_progress() as say:
        say("working [on it]")
    """
    for names in (["stderr"], ["stderr", "stdout"]):
        parent, child = os.openpty()
        done = python(COMMAND.format(body.strip()), **dict.fromkeys(names, child))
        os.close(child)
        shown = os.read(parent, 100_000)
        os.close(parent)
        assert b"2/2" in shown
        assert b"working [on it]" in shown
        if "stdout" in names:  # one terminal for both: the line of the bar is cleared for a result
            assert b"\x1b[2Ka\r\n" in shown
        else:
            assert done.stdout == b"a\nb\n"


def on_a_terminal(body: str) -> str:
    """What a command with this body shows on a terminal of its own for stderr, without colours."""
    parent, child = os.openpty()
    command = [sys.executable, "-c", COMMAND.format(body.strip())]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=child):
        os.close(child)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
            while True:
                shown += os.read(parent, 4096)
    os.close(parent)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_progress_has_the_rate_and_the_time_left():
    shown = on_a_terminal("""
    import time
    with progress_bar() as show:
        for done in range(5):
            show(FileProgress(Path("a.png"), done, 100))
            time.sleep(0.2)
        for frames in range(5):
            show(FileProgress(Path("in/[a].mp4"), 4, 100, frames, 3000))
            time.sleep(0.2)
    """)
    assert re.search(r"files .* 4/100 [345]\.\d/s 0:00:\d\d", shown)
    assert re.search(r"\[a\]\.mp4 .* [23]/3000 [345]\.\d/s 0:1\d:\d\d", shown)


def test_slow_items_have_a_rate_too():
    from rich.console import Console

    from maxim_deploy.cli._bar import TerminalBar

    bar = TerminalBar()
    clock = [0.0]
    bar.get_time = lambda: clock[0]
    for done, clock[0] in enumerate((0.0, 90.0, 180.0, 270.0)):  # seconds, on a small machine
        bar.show(FileProgress(Path("a.png"), done, 10))
    with Console(width=200).capture() as _:
        cells = [str(c.render(bar.tasks[0])) for c in bar.columns[3:]]
    assert cells == ["90.0 s each", "0:10:30"]


def test_a_single_item_shows_its_parts_only():
    shown = on_a_terminal("""
    with progress_bar() as show:
        show(FileProgress(Path("a.png"), 0, 1))
        show(FileProgress(Path("a.png"), 1, 1))
    """)
    assert "files" not in shown
    shown = on_a_terminal("""
    with progress_bar() as show:
        show(FileProgress(Path("a.mp4"), 0, 1, 1, None))
    """)
    assert "files" not in shown
    assert "a.mp4" in shown


def test_the_frames_of_a_video_are_shown_while_it_is_in_the_network():
    from maxim_deploy.cli._bar import TerminalBar

    def lines() -> list[str]:
        return [f"{task.description} {task.completed:g}" for task in bar.tasks]

    bar, first, second = TerminalBar(), Path("a.mp4"), Path("b.mp4")
    bar.show(FileProgress(Path("z.png"), 1, 4, result=FileResult("z.png", status="finished")))
    assert lines() == []  # of an earlier run
    bar.show(FileProgress(first, 1, 4, 0, 8))
    bar.show(FileProgress(first, 1, 4, 1, 8))
    assert lines() == ["files 1", "a.mp4 1"]
    bar.show(FileProgress(second, 1, 4, 0, 8))
    assert lines() == ["files 1", "b.mp4 0"]
    bar.show(FileProgress(first, 2, 4, result=FileResult("a.mp4")))  # written meanwhile
    assert lines() == ["files 2", "b.mp4 0"]
    bar.show(FileProgress(second, 3, 4, result=FileResult("b.mp4")))
    bar.show(FileProgress(Path("c.png"), 3, 4))
    assert lines() == ["files 3"]
