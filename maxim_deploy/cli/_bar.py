"""The progress bar on a terminal, with the rate and the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from maxim_deploy.jobs.progress import Bar

_RATE_WINDOW_S = 3600
"""The rate is a mean over so long; a large frame alone may take a minute."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second, or seconds per item where those are many."""
        speed = task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class TerminalBar(Bar):
    """A line for the files, if there are several, and below it one for the frames of a video."""

    def __init__(self, total: int) -> None:
        # Results for the same terminal go above the bar; for a file or a pipe they go straight.
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True, soft_wrap=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            speed_estimate_period=_RATE_WINDOW_S,
        )
        self._files = self._progress.add_task("files", total=total, visible=total > 1)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self) -> None:
        """One more file is done."""
        self._progress.advance(self._files)

    @contextmanager
    def part(self, name: str, total: int | None) -> Iterator[Callable[[], object]]:
        """A line of its own while the block runs; call what it yields for each item done."""
        task = self._progress.add_task(name, total=total)
        try:
            yield lambda: self._progress.advance(task)
        finally:
            self._progress.remove_task(task)
