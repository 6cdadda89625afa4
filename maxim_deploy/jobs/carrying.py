"""What brings inputs of elsewhere to files, and takes results from files to elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Protocol

from maxim_deploy.jobs.job import FileResult
from maxim_deploy.jobs.progress import FileProgress
from maxim_deploy.jobs.record import ResumeRecord
from maxim_deploy.jobs.shards import Shard


class Carrier(Protocol):
    """Stands between a plan of temporary files and what they stand for."""

    def begin(self, progress: Callable[[FileProgress], object] | None) -> None:
        """Prove that results can be taken, and note whom to tell of each step.

        Raises:
            MaximDeployError: they cannot be taken.
        """

    def record(self, settings: dict[str, Any], shard: Shard | None) -> ResumeRecord:
        """A record that knows what the temporary files stand for."""

    def bring(self, source: Path) -> None:
        """Wait until an input is there; quick the second time.

        Raises:
            MaximDeployError: it cannot be brought.
            OSError: a disk failed.
        """

    def follow(self, step: FileProgress) -> None:
        """Is told of each step of the temporary files."""

    def abandon(self) -> None:
        """Bring nothing more, nor what is on its way."""

    def deliver(self, results: Generator[FileResult]) -> Generator[FileResult]:
        """The results of a run, each once it is where it belongs; removes the temporary files."""
