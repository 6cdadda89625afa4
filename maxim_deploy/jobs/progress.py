"""The progress of a run, as a value that callers can show."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxim_deploy.jobs.job import FileResult, Job


@dataclass(frozen=True)
class FileProgress:
    """One step forward: a file enters the network, a frame of it is done, or a file is done.

    Attributes:
        file: the input of the step.
        files_done: number of files that have a result.
        files_total: number of all files.
        frames_done: restored frames of a video in the network; otherwise None.
        frames_total: approximate number of frames of that video; None if its file does not say.
        result: result of a file that is done; None while the file is in the network.
    """

    file: Path
    files_done: int
    files_total: int
    frames_done: int | None = None
    frames_total: int | None = None
    result: FileResult | None = None


class Tally:
    """Counts finished files and calls `progress`, one call at a time.

    Args:
        progress: called for each step; None for no calls.
        total: number of results to expect.
    """

    def __init__(self, progress: Callable[[FileProgress], object] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        # The writing thread reports finished files while the caller's thread reports frames.
        self._lock = threading.Lock()

    def tell_step(self, job: Job) -> None:
        """Report that a file has entered the network, or that a frame of it is done."""
        self._tell(job.source, job.result.frames, job.expected_frames)

    def tell_result(self, result: FileResult) -> FileResult:
        """Report a finished file; returns its result."""
        self._tell(Path(result.input), None, None, result)
        return result

    def _tell(
        self, file: Path, done: int | None, total: int | None, result: FileResult | None = None
    ) -> None:
        with self._lock:
            self._done += result is not None
            if self._progress:
                self._progress(FileProgress(file, self._done, self._total, done, total, result))
