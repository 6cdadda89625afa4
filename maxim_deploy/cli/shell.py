"""What all commands share: options, logging, results on stdout, talk on stderr, and how they end.

Exit codes: 0 all done; 1 something failed, or a bug of ours; 2 usage; 130 interrupted.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from maxim_deploy._optional import missing_dependency
from maxim_deploy._progress import Progress
from maxim_deploy._version import __version__
from maxim_deploy.errors import MaximDeployError

if TYPE_CHECKING:
    from maxim_deploy.jobs.progress import FileProgress


PATH = click.Path(path_type=Path)
"""Type of every option that names a file or a folder."""


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-v` and `--version`, and the ending that all commands share.

    The innermost decorator: `@click.command(...)`, options of its own, `@common_options`.
    """

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A file name need not be UTF-8; it leaves with the bytes it came with.
            sys.stdout.reconfigure(errors="surrogateescape")
        with _logging_to_stderr(click.get_current_context().meta[__name__]), _tidy_ending():
            return function(*args, **kwargs)

    version = click.version_option(__version__, message="maxim-deploy %(version)s")
    verbose = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_count_verbosity,
        help="Say more on stderr; twice for debugging.",
    )
    return verbose(version(command))


def emit(line: str) -> None:
    """Write one line of results to stdout, at once.

    Raises:
        MaximDeployError: stdout cannot take it, because of a full disk for one.
        BrokenPipeError: nobody reads it any more.
    """
    try:
        _write(sys.stdout, line)
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_stdout_go()
        raise MaximDeployError(f"standard output | cannot be written: {error.strerror}") from error


def _let_stdout_go() -> None:
    """What is still buffered goes nowhere, or the interpreter would fail over it at its end."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # a device, not a path of ours
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say(line: str) -> None:
    """Write one line of talk to stderr."""
    _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    # Not `click.echo`: it goes past the stand-in that makes lines appear above a progress bar.
    stream.write(f"{line}\n")
    stream.flush()


@contextmanager
def progress_bar() -> Iterator[Callable[[FileProgress], object]]:
    """A bar on stderr while the block runs, where stderr is a terminal; call what this yields.

    For a single file only its frames are shown, if it has any.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from maxim_deploy.cli._bar import TerminalBar

    with TerminalBar() as bar:
        yield bar.show


@contextmanager
def report_progress() -> Iterator[Progress]:
    """What is being done at the moment; call what it yields as each step begins.

    A spinner on a terminal, replaced by the next step. Elsewhere a line of talk per step; of one
    that counts ("downloading: 3 MB", "downloading: 4 MB") only what stands before the colon, once.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("") as status:
            yield lambda step: status.update(Text(step))
        return
    said: set[str] = set()

    def say_once(step: str) -> None:
        step = step.split(":")[0]
        if step not in said:
            said.add(step)
            say(step)

    yield say_once


@contextmanager
def _tidy_ending() -> Iterator[None]:
    try:
        yield
    except MaximDeployError as error:
        _end_with(error)
    except KeyboardInterrupt as error:
        say("Interrupted")
        raise click.exceptions.Exit(130) from error
    except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise  # click prints a usage error, and leaves without a word when the reader is gone
    except Exception as error:
        # Rooms import what they need at their top; which command needs which extra follows from it.
        if isinstance(error, ModuleNotFoundError) and (told := missing_dependency(error)):
            _end_with(told)
        say(traceback.format_exc().rstrip())
        say(f"this is a bug in maxim-deploy {__version__}; please report it with the text above")
        raise click.exceptions.Exit(1) from error


def _end_with(error: MaximDeployError) -> NoReturn:
    say(f"Error: {error}")
    raise click.exceptions.Exit(error.exit_code) from error


class _StderrHandler(logging.Handler):
    """Looks stderr up for each record, so that a progress bar can make room for it."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _count_verbosity(ctx: click.Context, _: click.Parameter, count: int) -> None:
    # `maxim-deploy -v run -v` counts as two: the contexts of one call share `meta`.
    ctx.meta[__name__] = ctx.meta.get(__name__, 0) + count


@contextmanager
def _logging_to_stderr(verbosity: int) -> Iterator[None]:
    """Show our log and Python's warnings while the block runs; nobody else's log."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    ours, pythons = logging.getLogger("maxim_deploy"), logging.getLogger("py.warnings")
    level_before = ours.level
    ours.setLevel([logging.WARNING, logging.INFO, logging.DEBUG][min(verbosity, 2)])
    logging.captureWarnings(True)
    for talker in (ours, pythons):
        talker.addHandler(handler)
    try:
        yield
    finally:
        for talker in (ours, pythons):
            talker.removeHandler(handler)
        logging.captureWarnings(False)
        ours.setLevel(level_before)
