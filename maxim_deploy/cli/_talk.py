"""Output of commands: results to stdout, messages and our log to stderr."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from maxim_deploy.cli import _streams
from maxim_deploy.errors import printable

_ours = logging.getLogger("maxim_deploy")


def emit(line: str) -> None:
    """Write a line of results to stdout at once. Control characters are escaped.

    Raises:
        MaximDeployError: writing failed, for example because the disk is full.
        BrokenPipeError: the reader has left.
    """
    try:
        _write(sys.stdout, line)
    except OSError as error:
        raise _streams.stdout_error(error) from error


def say(line: str) -> None:
    """Write a message to stderr, unless `-q` is given."""
    if not is_quiet():
        complain(line)


def complain(line: str) -> None:
    """Write an error line to stderr."""
    _write(sys.stderr, line)


def is_quiet() -> bool:
    """Whether `-q` is given."""
    return _ours.level > logging.WARNING


def _write(stream: TextIO, line: str) -> None:
    # Not `click.echo`, which bypasses the wrapper that puts lines above a progress bar.
    stream.write(f"{printable(line, keep=_IN_TEXT)}\n")
    stream.flush()


_IN_TEXT = "\n\t"
"""Control characters that we use in tables and lists."""


class _StderrHandler(logging.Handler):
    """Uses the present stderr for each record, so a progress bar can make room."""

    def emit(self, record: logging.LogRecord) -> None:
        # A copy: handlers of an application get unchanged names.
        own = copy.copy(record)
        if isinstance(own.args, tuple):
            own.args = tuple(map(_in_a_line, own.args))
        complain(self.format(own))


def _in_a_line(argument: object) -> object:
    """A name without line breaks. Only the text around it may have them."""
    return printable(str(argument)) if isinstance(argument, str | Path) else argument


_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


@contextmanager
def logging_to_stderr(verbosity: int) -> Iterator[None]:
    """Show our log and Python's warnings, but no other logs, during the block."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    talkers = (_ours, logging.getLogger("py.warnings"))
    level = _LEVELS[max(-1, min(verbosity, 2))]
    # Also on the handler: Python's warnings use a logger whose level is not ours.
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
