"""How far restoring has come, as a value that callers can show."""

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
        file: the input that made the step.
        files_done: files that have a result so far.
        files_total: files that there are in all.
        frames_done: of a video in the network, its frames that are restored; else None.
        frames_total: about how many frames it has, or None if the file does not say.
        result: of a file that is done; None while it is in the network.
    """

    file: Path
    files_done: int
    files_total: int
    frames_done: int | None = None
    frames_total: int | None = None
    result: FileResult | None = None


class Tally:
    """Counts the files that are done and makes the calls of `progress`, one at a time.

    Args:
        progress: called for each event; None for no calls.
        total: how many results there will be.
    """

    def __init__(self, progress: Callable[[FileProgress], object] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        # The writing thread tells of finished files while the caller's thread tells of frames.
        self._lock = threading.Lock()

    def tell_step(self, job: Job) -> None:
        """A file has entered the network, or a frame of it is done."""
        self._tell(job.source, job.result.frames, job.expected_frames)

    def tell_result(self, result: FileResult) -> FileResult:
        """A file is done; returns its result."""
        self._tell(Path(result.input), None, None, result)
        return result

    def _tell(
        self, file: Path, done: int | None, total: int | None, result: FileResult | None = None
    ) -> None:
        with self._lock:
            self._done += result is not None
            if self._progress:
                self._progress(FileProgress(file, self._done, self._total, done, total, result))
