"""Common parts of all commands: options, output, progress and exit."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy._progress import Progress
from maxim_deploy._version import __version__
from maxim_deploy.cli import _signals, _streams
from maxim_deploy.cli._ending import tidy_ending
from maxim_deploy.cli._talk import complain, emit, is_quiet, logging_to_stderr, say
from maxim_deploy.errors import printable

if TYPE_CHECKING:
    from maxim_deploy.jobs.progress import FileProgress


__all__ = [
    "PATH",
    "common_options",
    "complain",
    "emit",
    "is_quiet",
    "progress_bar",
    "report_progress",
    "say",
]

PATH = click.Path(path_type=Path)
"""Type of options that name a file or a folder."""


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-v`, `-q`, `--version` and the common exit to a command.

    It is the innermost decorator: `@click.command(...)`, own options, `@common_options`.
    """

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        _streams.let_stdout_show_any_name()
        verbosity = click.get_current_context().meta[__name__]
        with logging_to_stderr(verbosity), tidy_ending():
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
        help="Print more to stderr; repeat for debugging.",
    )
    quiet = click.option(
        "-q",
        "--quiet",
        count=True,
        expose_value=False,
        callback=functools.partial(_count_verbosity, -1),
        help="Print only errors to stderr.",
    )
    return verbose(quiet(version(command)))


@contextmanager
def progress_bar() -> Iterator[Callable[[FileProgress], object]]:
    """Show a progress bar on stderr during the block, if it is a terminal. Call what this yields.

    For a single file only the frames of a video are shown.
    """
    if is_quiet() or not sys.stderr.isatty():
        yield lambda _: None
        return
    from maxim_deploy.cli._bar import TerminalBar

    with TerminalBar() as bar:
        yield bar.show


@contextmanager
def report_progress() -> Iterator[Progress]:
    """Show the current step. Call what this yields at the start of each step.

    On a terminal it is a spinner, replaced by the next step. Elsewhere it is a line per step. For a
    step that counts ("downloading: 3 MB", "downloading: 4 MB") only the part before the colon is
    printed, once.
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


def _count_verbosity(weight: int, ctx: click.Context, _: click.Parameter, count: int) -> None:
    # `maxim-deploy -v run -v` counts as two: the contexts of one call share `meta`.
    ctx.meta[__name__] = ctx.meta.get(__name__, 0) + weight * count
