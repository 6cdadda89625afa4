"""Interface to processes that run the jobs of `restore_files` in place of a `Restorer`."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maxim_deploy.imaging import Rounding
from maxim_deploy.jobs.job import FileResult, Job
from maxim_deploy.jobs.progress import Tally


class JobRunner(ABC):
    """Restores files in other processes, each of which loads the bundle.

    Attributes:
        settings: settings that results depend on besides their inputs; see `result_settings`.
        load_options: the given options of `load`.
    """

    settings: dict[str, Any]
    load_options: dict[str, Any]

    @abstractmethod
    def run(
        self,
        jobs: Sequence[Job],
        tally: Tally,
        cancel: threading.Event,
        *,
        rounding: Rounding,
        self_ensemble: bool,
        expected: Mapping[tuple[int, int], int] | None = None,
    ) -> Iterator[FileResult]:
        """Run each job to its end, or until `cancel` is set.

        Args:
            jobs: the jobs that no earlier run has finished. This process adds the lines to their
                records.
            tally: counts each step and each result.
            cancel: once it is set, pictures in the network are finished, and no other file begins.
            rounding: as in a call of `Restorer`.
            self_ensemble: as in a call of `Restorer`.
            expected: number of pictures by (height, width), for the backend "auto", as in `load`.

        Returns:
            The results in the order in which they are finished.
        """
