"""The progress bar on a terminal, with the rate and the time that is left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from maxim_deploy.jobs.progress import FileProgress

_RATE_WINDOW_S = 3600
"""The rate is a mean over so long; a large frame alone may take a minute."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second, or seconds per item where those are many."""
        speed = task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class TerminalBar:
    """A line for the files, if there are several, and below it one for the frames of a video."""

    def __init__(self) -> None:
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
        self._files: TaskID | None = None
        self._frames: tuple[Path, TaskID] | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: FileProgress) -> None:
        """One step forward."""
        if self._files is None:
            if progress.result:
                return  # of an earlier run: it would spoil the rate of this one
            total, done = progress.files_total, progress.files_done
            self._files = self._progress.add_task(
                "files", total=total, completed=done, visible=total > 1
            )
        self._progress.update(self._files, completed=progress.files_done)
        if progress.result is None:
            self._show_frames(progress)
        elif self._frames and self._frames[0] == progress.file:
            self._end_frames()

    def _show_frames(self, progress: FileProgress) -> None:
        if self._frames and self._frames[0] != progress.file:
            self._end_frames()
        if progress.frames_done is None:
            return
        if self._frames is None:
            task = self._progress.add_task(progress.file.name, total=progress.frames_total)
            self._frames = progress.file, task
        self._progress.update(self._frames[1], completed=progress.frames_done)

    def _end_frames(self) -> None:
        if self._frames:
            self._progress.remove_task(self._frames[1])
        self._frames = None
