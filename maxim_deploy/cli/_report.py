"""What `maxim-run` says: a line for each result, how each input would run, and the end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from maxim_deploy import runtime
from maxim_deploy.cli import shell
from maxim_deploy.errors import MaximDeployError, printable
from maxim_deploy.jobs.job import FileResult
from maxim_deploy.jobs.naming import FilePlan
from maxim_deploy.jobs.progress import FileProgress
from maxim_deploy.jobs.restore import read_size


class RunReport:
    """Follows a run: results as they come, how far it is, and a summary.

    Attributes:
        results: those that there are.
        is_restoring: whether the network is loaded and at work.
        failure: why results cannot be shown any more, or None.

    Args:
        as_json: whether results are shown as JSON.
        bar: shows how far it is.
        cancel: is set where results cannot be shown any more: what is in the network is finished.
    """

    def __init__(
        self, as_json: bool, bar: Callable[[FileProgress], object], cancel: threading.Event
    ) -> None:
        self._as_json, self._bar, self._cancel = as_json, bar, cancel
        self.failure: Exception | None = None
        self.results: list[FileResult] = []
        self.is_restoring = False
        self._started = time.perf_counter()

    def follow(self, progress: FileProgress) -> None:
        """One step forward."""
        if progress.result:
            self.results.append(progress.result)
            try:
                show(progress.result, self._as_json)
            except (MaximDeployError, BrokenPipeError) as error:
                self.failure = error
                self._cancel.set()
        elif not self.is_restoring:
            # Loading took as long as it took; the share of the network is of the time from here.
            self.is_restoring, self._started = True, time.perf_counter()
        self._bar(progress)

    def summarise(self, ending: str) -> None:
        """How many of each; a failure is named only where there is one."""
        seconds = time.perf_counter() - self._started
        failed = sum(result.error is not None for result in self.results)
        finished = sum(result.status == "finished" for result in self.results)
        # Of several images side by side the seconds are those of each, and so are more.
        share = min(1.0, sum(result.network_seconds for result in self.results) / seconds)
        counts = f"{len(self.results) - failed - finished} restored"
        counts += f", {failed} failed" if failed else ""
        counts += f", {finished} finished before" if finished else ""
        shell.say(f"{counts} in {seconds:.1f} s, {share:.0%} of it in the network{ending}")


def show(result: FileResult, as_json: bool) -> None:
    """A result on stdout, a failure on stderr, each in one line whatever is in a name."""
    if result.error:
        shell.complain(f"failed: {printable(result.error)}")
    if as_json:
        shell.emit(json.dumps(result.to_json()))
    elif result.output:
        shell.emit(printable(result.output))


def show_plans(
    bundle: Path,
    plan: FilePlan,
    options: dict[str, Any],
    self_ensemble: bool,
    as_json: bool,
    max_pixels: int | None = None,
) -> None:
    """For each input a line of text or JSON that says how it, or a frame of it, would be run.

    Raises:
        Exit: an input cannot be read, or cannot be run within the memory.
    """
    failed = bool(plan.failures)
    for failure in plan.failures:
        show(failure, as_json)
    with runtime.load(bundle, **options) as restorer:
        for source in plan.targets:
            try:
                size = read_size(source, max_pixels=max_pixels)
                how = restorer.plan(*size, self_ensemble=self_ensemble)
            except (MaximDeployError, MemoryError, OSError) as error:
                show(FileResult.failure(source, error), as_json)
                failed = True
                continue
            record = {"input": str(source), **asdict(how), "together": how.batch}
            shell.emit(json.dumps(record) if as_json else f"{printable(str(source))} {how}")
    if failed:
        raise click.exceptions.Exit(1)


def show_status(counts: tuple[int, int], as_json: bool) -> None:
    """How many files are finished, of how many."""
    finished, files = counts
    record = {"finished": finished, "files": files}
    shell.emit(json.dumps(record) if as_json else f"{finished:,} of {files:,} files are finished")
