"""The protocol that copies remote inputs to temporary files, and results back to a store."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Protocol

from maxim_deploy.jobs.job import FileResult
from maxim_deploy.jobs.progress import FileProgress
from maxim_deploy.jobs.record import ResumeRecord
from maxim_deploy.jobs.shards import Shard


class Carrier(Protocol):
    """Connects the temporary files of a plan with the remote files that they stand for."""

    def begin(self, progress: Callable[[FileProgress], object] | None) -> None:
        """Check that results can be stored, and keep the function to call with each step.

        Raises:
            MaximDeployError: results cannot be stored.
        """

    def record(self, settings: dict[str, Any], shard: Shard | None) -> ResumeRecord:
        """A record that knows what the temporary files stand for."""

    def bring(self, source: Path) -> None:
        """Wait until an input has been copied to its temporary file; quick the second time.

        Raises:
            MaximDeployError: the input cannot be copied.
            OSError: a disk failed.
        """

    def follow(self, step: FileProgress) -> None:
        """Receive each step of the temporary files."""

    def abandon(self) -> None:
        """Start no further copies of inputs, and end those that are running."""

    def deliver(self, results: Generator[FileResult]) -> Generator[FileResult]:
        """Yield each result of a run once it is stored, then remove the temporary files."""
