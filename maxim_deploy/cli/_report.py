"""Output of `maxim-run`: results, plans, and the summary."""

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
    """Reports a run: results, progress, and a summary.

    Attributes:
        results: results so far.
        is_restoring: whether the network is loaded and running.
        failure: why results can no longer be shown, or None.

    Args:
        as_json: whether to show results as JSON.
        bar: shows progress.
        cancel: event that is set if results can no longer be shown. Current files are then
            finished.
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
        """Report a step."""
        if progress.result:
            self.results.append(progress.result)
            try:
                show(progress.result, self._as_json)
            except (MaximDeployError, BrokenPipeError) as error:
                self.failure = error
                self._cancel.set()
        elif not self.is_restoring:
            # The network's share excludes loading, so time counts from here.
            self.is_restoring, self._started = True, time.perf_counter()
        self._bar(progress)

    def summarise(self, ending: str) -> None:
        """The counts of results. Failures appear only if there are any."""
        seconds = time.perf_counter() - self._started
        failed = sum(result.error is not None for result in self.results)
        finished = sum(result.status == "finished" for result in self.results)
        # With concurrent images the seconds overlap, so their sum exceeds the elapsed time.
        share = min(1.0, sum(result.network_seconds for result in self.results) / seconds)
        counts = f"{len(self.results) - failed - finished} restored"
        counts += f", {failed} failed" if failed else ""
        counts += f", {finished} finished before" if finished else ""
        shell.say(f"{counts} in {seconds:.1f} s, {share:.0%} of it in the network{ending}")


def show(result: FileResult, as_json: bool) -> None:
    """Print a result to stdout or a failure to stderr, each in one line."""
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
    """Print for each input how it, or a frame of it, would run, as text or JSON.

    Raises:
        Exit: an input cannot be read, or does not fit the memory.
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
    """Print the number of finished files and of all files."""
    finished, files = counts
    record = {"finished": finished, "files": files}
    shell.emit(json.dumps(record) if as_json else f"{finished:,} of {files:,} files are finished")
