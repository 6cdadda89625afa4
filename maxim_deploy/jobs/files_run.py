"""The run of `restore_files` after its arguments have been checked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from maxim_deploy import runtime
from maxim_deploy.errors import UsageError
from maxim_deploy.imaging import Rounding
from maxim_deploy.jobs.calls import Calls
from maxim_deploy.jobs.expected import expected_work
from maxim_deploy.jobs.job import FileResult, Job
from maxim_deploy.jobs.naming import FilePlan
from maxim_deploy.jobs.pipeline import run_jobs
from maxim_deploy.jobs.progress import FileProgress, Tally
from maxim_deploy.jobs.runner import JobRunner
from maxim_deploy.runtime.info import result_settings
from maxim_deploy.runtime.registry import chooses_by_work

MANY = 8
"""With this many images or tiles it pays to measure first how many lanes are fastest."""


@dataclass(frozen=True)
class FilesRun:
    """The files of a plan, and how they are restored.

    Attributes:
        restorer: the caller's restorer, the folder of a bundle, or a runner of jobs in other
            processes.
        plan: the plan of the files.
        jobs: a job for each file of the plan.
        load_options: options of `load` for the bundle.
        of_network: settings of the network that the jobs' records name.
        rounding: as in a call of `Restorer`.
        self_ensemble: as in a call of `Restorer`.
        resume: whether to skip files that a record lists as finished.
        progress: called with each step.
        cancel: once it is set, no other file begins.
    """

    restorer: runtime.Restorer | Path | JobRunner
    plan: FilePlan
    jobs: list[Job]
    load_options: Mapping[str, Any]
    of_network: dict[str, Any]
    rounding: Rounding
    self_ensemble: bool
    resume: bool
    progress: Callable[[FileProgress], object] | None
    cancel: threading.Event

    def results(self) -> Generator[FileResult]:
        """Restore the unfinished files; the bundle is loaded only if there are any."""
        tally = Tally(self.progress, len(self.plan.failures) + len(self.jobs))
        yield from map(tally.tell_result, self.plan.failures)
        left = []
        for job in self.jobs:
            if self.resume and (job.is_finished() or job.result.error):
                yield tally.tell_result(job.result)
            else:
                left.append(job)
        if not left or self.cancel.is_set():
            return
        if isinstance(self.restorer, JobRunner):
            yield from self.restorer.run(
                left,
                tally,
                self.cancel,
                rounding=self.rounding,
                self_ensemble=self.self_ensemble,
                **self._expected(self.restorer.load_options),
            )
            return
        with self._open(self.restorer, left) as restorer:
            calls = Calls(restorer, rounding=self.rounding, self_ensemble=self.self_ensemble)
            yield from run_jobs(
                left,
                calls,
                tally,
                self.cancel,
                partial(self._has_room, restorer),
                partial(_choose_lanes, restorer, left),
                partial(self._abandon, calls),
            )

    @contextmanager
    def _open(
        self, restorer: runtime.Restorer | Path, left: list[Job]
    ) -> Iterator[runtime.Restorer]:
        if not isinstance(restorer, Path):
            yield restorer  # the caller's restorer, which stays open
            return
        options = {**self._expected(self.load_options), **self.load_options}
        with runtime.load(restorer, **options) as loaded:
            if result_settings(restorer, self.load_options) != self.of_network:
                # The bundle was replaced after the jobs were made.
                _made_by(loaded, left)
            yield loaded

    def _expected(self, load_options: Mapping[str, Any]) -> dict[str, Any]:
        """The expected work, if the backend is "auto" and its choice depends on the work.

        It covers the whole plan rather than the unfinished files, so that a resumed job runs on
        the backend that it began with.
        """
        if load_options.get("backend", "auto") != "auto" or not chooses_by_work():
            return {}
        return {"expected": expected_work([*self.plan.targets])}

    def _has_room(self, restorer: runtime.Restorer, job: Job, size: int, runs: int) -> bool:
        height, width = job.result.height, job.result.width
        if height is None or width is None:  # the file was not read
            return True
        return restorer.has_room(size, height, width, self_ensemble=self.self_ensemble, runs=runs)

    def _abandon(self, calls: Calls) -> None:
        calls.abandon()
        if self.plan.carrier:
            self.plan.carrier.abandon()


def _choose_lanes(restorer: runtime.Restorer, left: list[Job], job: Job) -> int:
    height, width = job.result.height, job.result.width
    if not height or not width:  # the file was not read
        return restorer.info.lanes
    is_much = len(left) >= MANY or not all(one.is_one_call for one in left)
    if is_much or _takes_many_tiles(restorer, height, width):
        return restorer.choose_lanes(height, width)
    return restorer.info.lanes


def _takes_many_tiles(restorer: runtime.Restorer, height: int, width: int) -> bool:
    try:
        return restorer.plan(height, width).tiles >= MANY
    except UsageError:  # the run itself reports why
        return False


def _made_by(restorer: runtime.Restorer, jobs: list[Job]) -> None:
    """Put the settings of the loaded network into the records of jobs."""
    for record in {job.record for job in jobs if job.record}:
        record.made_by(restorer.info.settings)
