"""The end of a command's process: one line of error, and the exit code.

0: all done. 1: a failure or a bug of ours. 2: wrong usage. 128 + N: stopped by signal N, which is
130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP.
"""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from maxim_deploy._optional import missing_dependency
from maxim_deploy._version import __version__
from maxim_deploy.cli import _signals, _streams
from maxim_deploy.cli._talk import complain
from maxim_deploy.errors import MaximDeployError, quoted


def run_process(command: click.Command, name: str) -> None:
    """Run a command as the whole process: the body of a console script.

    Raises:
        SystemExit: with the exit code.
    """
    _streams.open_closed_streams()
    _streams.let_stderr_never_fail()
    _signals.stop_on_signals()
    try:
        with tidy_ending():
            try:
                code = command.main(prog_name=name, standalone_mode=False)
            except click.ClickException as error:
                shown = io.StringIO()
                error.show(shown)
                complain(shown.getvalue().rstrip())
                code = error.exit_code
            except OSError as error:  # click's own output: --help, --version
                raise _streams.stdout_error(error) from error
    finally:
        # On exit Python waits for threads, and would show a traceback for a signal.
        _signals.end_without_signals()
    raise SystemExit(code)


@contextmanager
def tidy_ending() -> Iterator[None]:
    """Exit with one line about the error and the matching exit code."""
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
        raise SystemExit(1) from None  # silently: the reader of stdout has left
    except OSError as error:
        logging.getLogger(__name__).debug("where it happened", exc_info=True)
        _end_with(f"{_name_of(error)}{error.strerror or error}", 1)
    except Exception as error:
        # Modules import their requirements at the top. This determines the extra that a command
        # needs.
        if isinstance(error, ModuleNotFoundError) and (told := missing_dependency(error)):
            _end_with(str(told), told.exit_code)
        complain(traceback.format_exc().rstrip())
        complain(
            f"this is a bug in maxim-deploy {__version__}; please report it with the text above"
        )
        raise SystemExit(1) from error


@contextmanager
def _interruptions_shown() -> Iterator[None]:
    """Raise the interruption instead of an error that it caused in a library."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, click.exceptions.Exit):
            _signals.stop_if_asked()
        raise


def _name_of(error: OSError) -> str:
    return f"{quoted(error.filename)} | " if error.filename else ""


def _end_interrupted(error: BaseException) -> NoReturn:
    """Turn click's `Abort` during parsing into an interruption."""
    _signals.end_without_signals()
    cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
    stopped = cause if isinstance(cause, KeyboardInterrupt) else KeyboardInterrupt()
    complain_of_interruption(stopped)
    raise SystemExit(_signals.exit_code_of(stopped))


def complain_of_interruption(error: KeyboardInterrupt) -> None:
    """Print the signal that ended the command."""
    name = _signals.signal_of(error).name
    complain("Interrupted" if name == "SIGINT" else f"Stopped by {name}")


def _end_with(text: str, exit_code: int) -> NoReturn:
    complain(f"Error: {text}")
    raise SystemExit(exit_code)
