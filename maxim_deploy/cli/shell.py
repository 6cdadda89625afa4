"""What all commands share: options, logging, results on stdout, talk on stderr, and how they end.

Exit codes: 0 all done; 1 something failed, or a bug of ours; 2 usage; 128 + N stopped by signal N,
which is 130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP.
"""

from __future__ import annotations

import functools
import io
import logging
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
from maxim_deploy.cli import _signals, _streams
from maxim_deploy.cli._streams import printable
from maxim_deploy.errors import MaximDeployError

if TYPE_CHECKING:
    from maxim_deploy.jobs.progress import FileProgress


PATH = click.Path(path_type=Path)
"""Type of every option that names a file or a folder."""


_ours = logging.getLogger("maxim_deploy")


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-v`, `-q` and `--version`, and the ending that all commands share.

    The innermost decorator: `@click.command(...)`, options of its own, `@common_options`.
    """

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        _streams.let_stdout_show_any_name()
        verbosity = click.get_current_context().meta[__name__]
        with _logging_to_stderr(verbosity), _tidy_ending():
            return function(*args, **kwargs)

    version = click.version_option(
        __version__, message="maxim-deploy %(version)s", help="Show the version and exit."
    )
    verbose = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=functools.partial(_count_verbosity, 1),
        help="Say more on stderr; twice for debugging.",
    )
    quiet = click.option(
        "-q",
        "--quiet",
        count=True,
        expose_value=False,
        callback=functools.partial(_count_verbosity, -1),
        help="Say nothing on stderr but errors.",
    )
    return verbose(quiet(version(command)))


def run_process(command: click.Command, name: str) -> None:
    """Be a process that runs this command and nothing else; the whole of a console script.

    Raises:
        SystemExit: with the exit code.
    """
    _streams.open_closed_streams()
    _streams.let_stderr_never_fail()
    _signals.stop_on_signals()
    try:
        with _tidy_ending():
            try:
                code = command.main(prog_name=name, standalone_mode=False)
            except click.ClickException as error:
                shown = io.StringIO()
                error.show(shown)
                complain(shown.getvalue().rstrip())
                code = error.exit_code
            except OSError as error:  # of click's own words: --help, --version
                raise _streams.stdout_error(error) from error
    finally:
        # Python waits for threads as it ends, and shows a traceback for a signal there.
        _signals.end_without_signals()
    raise SystemExit(code)


def emit(line: str) -> None:
    """Write one line of results to stdout, at once. Control characters in it are escaped.

    Raises:
        MaximDeployError: stdout cannot take it, because of a full disk for one.
        BrokenPipeError: nobody reads it any more.
    """
    try:
        _write(sys.stdout, line)
    except OSError as error:
        raise _streams.stdout_error(error) from error


def say(line: str) -> None:
    """Write one line of talk to stderr, unless `-q` is given."""
    if not is_quiet():
        complain(line)


def complain(line: str) -> None:
    """Write one line of what went wrong to stderr."""
    _write(sys.stderr, line)


def is_quiet() -> bool:
    """Whether `-q` is given."""
    return _ours.level > logging.WARNING


def _write(stream: TextIO, line: str) -> None:
    # Not `click.echo`: it goes past the stand-in that makes lines appear above a progress bar.
    stream.write(f"{printable(line, keep=_IN_TEXT)}\n")
    stream.flush()


_IN_TEXT = "\n\t"
"""Control characters of our own, in tables and lists."""


@contextmanager
def progress_bar() -> Iterator[Callable[[FileProgress], object]]:
    """A bar on stderr while the block runs, where stderr is a terminal; call what this yields.

    For a single file only its frames are shown, if it has any.
    """
    if is_quiet() or not sys.stderr.isatty():
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
    if sys.stderr.isatty() and not is_quiet():
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("") as status:

            def show(step: str) -> None:
                _signals.stop_if_asked()
                status.update(Text(printable(step)))

            yield show
        return
    said: set[str] = set()

    def say_once(step: str) -> None:
        _signals.stop_if_asked()
        step = step.split(":")[0]
        if step not in said:
            said.add(step)
            say(step)

    yield say_once


@contextmanager
def _tidy_ending() -> Iterator[None]:
    """End the process with one line of what went wrong, and the exit code that goes with it."""
    try:
        with _interruptions_shown():
            yield
    except MaximDeployError as error:
        _end_with(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        _end_interrupted(error)
    except (click.ClickException, click.exceptions.Exit):
        raise
    except BrokenPipeError:
        raise SystemExit(1) from None  # without a word: the reader of stdout has left
    except OSError as error:
        logging.getLogger(__name__).debug("where it happened", exc_info=True)
        _end_with(f"{_name_of(error)}{error.strerror or error}", 1)
    except Exception as error:
        # Rooms import what they need at their top; which command needs which extra follows from it.
        if isinstance(error, ModuleNotFoundError) and (told := missing_dependency(error)):
            _end_with(str(told), told.exit_code)
        complain(traceback.format_exc().rstrip())
        complain(
            f"this is a bug in maxim-deploy {__version__}; please report it with the text above"
        )
        raise SystemExit(1) from error


@contextmanager
def _interruptions_shown() -> Iterator[None]:
    """Raise the interruption in place of an error that it has led to in a library."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, click.exceptions.Exit):
            _signals.stop_if_asked()
        raise


def _name_of(error: OSError) -> str:
    return f"'{error.filename}' | " if error.filename else ""


def _end_interrupted(error: BaseException) -> NoReturn:
    """An `Abort` is what click makes of an interruption while it reads the command line."""
    _signals.end_without_signals()
    cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
    stopped = cause if isinstance(cause, KeyboardInterrupt) else KeyboardInterrupt()
    complain_of_interruption(stopped)
    raise SystemExit(_signals.exit_code_of(stopped))


def complain_of_interruption(error: KeyboardInterrupt) -> None:
    """Say which signal has ended the command."""
    name = _signals.signal_of(error).name
    complain("Interrupted" if name == "SIGINT" else f"Stopped by {name}")


def _end_with(text: str, exit_code: int) -> NoReturn:
    complain(f"Error: {text}")
    raise SystemExit(exit_code)


class _StderrHandler(logging.Handler):
    """Looks stderr up for each record, so that a progress bar can make room for it."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(self.format(record))


def _count_verbosity(weight: int, ctx: click.Context, _: click.Parameter, count: int) -> None:
    # `maxim-deploy -v run -v` counts as two: the contexts of one call share `meta`.
    ctx.meta[__name__] = ctx.meta.get(__name__, 0) + weight * count


_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


@contextmanager
def _logging_to_stderr(verbosity: int) -> Iterator[None]:
    """Show our log and Python's warnings while the block runs; nobody else's log."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    talkers = (_ours, logging.getLogger("py.warnings"))
    level = _LEVELS[max(-1, min(verbosity, 2))]
    # Of the handler too: Python's warnings come from a log whose level is not ours.
    handler.setLevel(level)
    level_before = _ours.level
    _ours.setLevel(level)
    logging.captureWarnings(True)
    for talker in talkers:
        talker.addHandler(handler)
    try:
        yield
    finally:
        for talker in talkers:
            talker.removeHandler(handler)
        logging.captureWarnings(False)
        _ours.setLevel(level_before)
