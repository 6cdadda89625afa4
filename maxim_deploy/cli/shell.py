"""What all commands share: their options, what they write, progress, and how they end."""

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
"""Type of every option that names a file or a folder."""


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `-v`, `-q` and `--version`, and the ending that all commands share.

    The innermost decorator: `@click.command(...)`, options of its own, `@common_options`.
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


def _count_verbosity(weight: int, ctx: click.Context, _: click.Parameter, count: int) -> None:
    # `maxim-deploy -v run -v` counts as two: the contexts of one call share `meta`.
    ctx.meta[__name__] = ctx.meta.get(__name__, 0) + weight * count
