"""What `maxim-run` says: a line for each result, how each input would run, and the end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import maxim_deploy
from maxim_deploy.cli import shell
from maxim_deploy.errors import MaximDeployError
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.video import VideoReader, is_video
from maxim_deploy.jobs.job import Result
from maxim_deploy.jobs.naming import Assignment


def show(result: Result, as_json: bool) -> None:
    """A result on stdout, a failure on stderr."""
    if result.error:
        shell.say(f"failed: {result.error}")
    if as_json:
        shell.emit(json.dumps(asdict(result)))
    elif result.output:
        shell.emit(result.output)


def show_plans(
    bundle: Path, plan: Assignment, options: dict[str, Any], ensemble: bool, as_json: bool
) -> None:
    """For each input a line of text or JSON that says how it, or a frame of it, would be run.

    Raises:
        Exit: an input cannot be read, or cannot be run within the memory.
    """
    failed = bool(plan.failures)
    for failure in plan.failures:
        show(failure, as_json)
    with maxim_deploy.load(bundle, **options) as restorer:
        for source in plan.targets:
            try:
                how = restorer.plan(*_size_of(source), self_ensemble=ensemble)
            except (MaximDeployError, MemoryError, OSError) as error:
                result = Result(str(source))
                result.fail(str(error) or "not enough memory")
                show(result, as_json)
                failed = True
                continue
            record = {"input": str(source), **asdict(how)}
            shell.emit(json.dumps(record) if as_json else f"{source} {how}")
    if failed:
        raise click.exceptions.Exit(1)


def _size_of(source: Path) -> tuple[int, int]:
    """Height and width, upright."""
    if not is_video(source):
        height, width = read_image(source).rgb.shape[:2]
        return height, width
    reader = VideoReader(source)
    reader.close()
    return reader.height, reader.width


def summarise(results: list[Result], seconds: float, ending: str) -> None:
    """How many of each, and the failures again."""
    failures = [result for result in results if result.error]
    finished = sum(result.status == "finished" for result in results)
    share = sum(result.network_seconds for result in results) / seconds
    before = f", {finished} finished before" if finished else ""
    shell.say(
        f"{len(results) - len(failures) - finished} restored, {len(failures)} failed{before} in "
        f"{seconds:.1f} s, {share:.0%} of it in the network{ending}"
    )
    for failure in failures:
        shell.say(f"  {failure.error}")
