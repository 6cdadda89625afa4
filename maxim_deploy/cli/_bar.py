"""The progress bar on a terminal, with rate and remaining time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

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

from maxim_deploy.errors import printable

if TYPE_CHECKING:
    from maxim_deploy.jobs.progress import FileProgress

_RATE_WINDOW_S = 3600
"""Seconds over which the rate is averaged. A large frame may take a minute."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Items per second, or seconds per item if items are slow."""
        speed = task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class TerminalBar(Progress):
    """A line for the files if there are several, and a line for the frames of a video."""

    def __init__(self) -> None:
        # Results on the same terminal appear above the bar. Files and pipes get them directly.
        super().__init__(
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
        self._frames: TaskID | None = None
        self._video: Path | None = None

    def show(self, progress: FileProgress) -> None:
        """Show a step."""
        if self._files is None:
            if progress.result:
                return  # finished by an earlier run: it would distort the rate
            total, done = progress.files_total, progress.files_done
            self._files = self.add_task("files", total=total, completed=done, visible=total > 1)
        self.update(self._files, completed=progress.files_done)
        # A video has left the network when it has a result or another file enters.
        if self._frames is not None and (self._video == progress.file) == bool(progress.result):
            self.remove_task(self._frames)
            self._frames = None
        if progress.frames_done is not None:
            if self._frames is None:
                self._video = progress.file
                self._frames = self.add_task(
                    printable(progress.file.name), total=progress.frames_total
                )
            self.update(self._frames, completed=progress.frames_done)
