"""Restore one file or any number of files, with a `Restorer` or a bundle."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from maxim_deploy import runtime
from maxim_deploy._files import make_folder, remove_abandoned
from maxim_deploy.errors import CancelledError, ImageError, UsageError, check_known, quoted
from maxim_deploy.imaging import Rounding, check_rounding
from maxim_deploy.imaging.files import check_output_suffix, read_image_size
from maxim_deploy.imaging.limits import check_max_pixels
from maxim_deploy.imaging.video import (
    KINDS,
    VideoEncoding,
    VideoReader,
    check_video_output,
    is_video,
)
from maxim_deploy.jobs.files_run import FilesRun
from maxim_deploy.jobs.job import FileResult, ImageJob, Job
from maxim_deploy.jobs.naming import FilePlan, plan_files
from maxim_deploy.jobs.progress import FileProgress
from maxim_deploy.jobs.record import ResumeRecord
from maxim_deploy.jobs.result_names import comparison_beside
from maxim_deploy.jobs.runner import JobRunner
from maxim_deploy.jobs.shards import Shard
from maxim_deploy.jobs.urls import is_url
from maxim_deploy.jobs.video import VideoJob
from maxim_deploy.runtime.info import result_settings


def restore_file(
    restorer: runtime.Restorer,
    source: str | Path,
    target: str | Path,
    *,
    compare: bool = False,
    rounding: Rounding = "nearest",
    self_ensemble: bool = False,
    encoding: VideoEncoding | None = None,
    max_pixels: int | None = None,
    drop: Collection[str] = (),
    progress: Callable[[FileProgress], object] | None = None,
    cancel: threading.Event | None = None,
) -> FileResult:
    """Restore one image or video file.

    The result keeps metadata as `read_image`, `write_image` and `VideoEncoding` describe.

    Args:
        restorer: made by `load`.
        source: an image or a video. The suffix tells which, or the content if the suffix does not.
        target: the file to write. Its suffix selects the format. Its folder is made if it is
            missing.
        compare: also write STEM.before-after beside the target.
        rounding: as in a call of `Restorer`.
        self_ensemble: as in a call of `Restorer`.
        encoding: encoding of a video; None for the default.
        max_pixels: as in `read_image`.
        drop: as in `restore_files`.
        progress: as in `restore_files`.
        cancel: as in `restore_files`.

    Raises:
        UsageError: an option is wrong, the target's suffix cannot be written, or the target is the
            source.
        ImageError: a file cannot be read or written, or the format cannot hold the picture.
        VideoError: a video cannot be read or written. If it ends early, its restored frames are in
            STEM.incomplete.SUFFIX.
        CancelledError: `cancel` was set before the end.
        BackendError: the network failed.
        MissingDependencyError: an extra is not installed.
        OSError: a disk failed.
        MemoryError: there is not enough memory.

    Example:
        >>> import maxim_deploy
        >>> with maxim_deploy.load("build/demo") as restorer:
        ...     result = maxim_deploy.restore_file(restorer, "photos/a.jpg", "restored/a.webp")
        >>> result.output, result.status, (result.height, result.width)
        ('restored/a.webp', 'restored', (48, 64))
    """
    if is_url(source) or is_url(target):
        raise UsageError("restore_file takes only local paths | pass URLs to restore_files")
    source, target = Path(source), Path(target)
    (check_video_output if is_video(source) else check_output_suffix)(target)
    plan = FilePlan(str(target), compare)
    plan.assign({source: target})
    iterator = restore_files(
        restorer,
        plan,
        rounding=rounding,
        self_ensemble=self_ensemble,
        encoding=encoding,
        max_pixels=max_pixels,
        drop=drop,
        progress=progress,
        cancel=cancel,
    )
    # Iterate to the end, though there is at most one result: then the writing thread has ended.
    results = list(iterator)
    if not results:
        raise CancelledError(f"{quoted(source)} | was cancelled before it began")
    if results[0].cause:
        raise results[0].cause
    return results[0]


def restore_files(
    restorer: runtime.Restorer | str | Path | JobRunner,
    inputs: FilePlan | str | Path | Iterable[str | Path],
    output: str | Path | None = None,
    *,
    recursive: bool = False,
    compare: bool = False,
    strict: bool = False,
    shard: Shard | None = None,
    resume: bool = False,
    rounding: Rounding = "nearest",
    self_ensemble: bool = False,
    encoding: VideoEncoding | None = None,
    max_pixels: int | None = None,
    drop: Collection[str] = (),
    progress: Callable[[FileProgress], object] | None = None,
    cancel: threading.Event | None = None,
    **load_options: Any,
) -> Generator[FileResult]:
    """Restore images and videos, from files, folders and patterns.

    A file that fails does not stop the others. Each result appears whole under its name or not at
    all. Earlier results are replaced; inputs never are. If a video ends early, its restored frames
    are kept in STEM.incomplete.SUFFIX, and its result is "failed".

    This call plans names and makes folders before it returns. The rest happens while the caller
    iterates, and the network runs in the caller's thread. If the restorer has several lanes, as
    many images or frames run at a time, each in its own thread. Another thread reads the next file
    and writes the previous one. Each video has two more threads, for decoding and encoding. Closing
    the iterator early ends these threads and leaves no file half written. Several threads may
    restore files with one `Restorer` at once.

    With `lanes="auto"` and at least eight images or one video, the run first measures how many
    lanes are fastest, unless that is known: see `Restorer.choose_lanes`.

    Args:
        restorer: a restorer; or a bundle, which is loaded if any file must be restored; or a
            `maxim_deploy.serving.ray_workers.RayWorkers`, whose processes restore the files and
            return results as they are finished.
        inputs: files, folders and patterns, as in `plan_files`; or the plan that it returned.
            The plan then determines `output`, `recursive`, `compare`, `strict` and `shard`.
        output: the file or folder to write.
        recursive: as in `plan_files`.
        compare: as in `plan_files`.
        strict: as in `plan_files`.
        shard: as in `plan_files`. The run then records finished files in
            `.maxim-run.I-of-N.jsonl` beside the results, even without `resume`.
        resume: skip a file that an earlier run has finished and recorded, if the result is whole
            and was made from the same input by the same bundle and options. The run records
            finished files in `.maxim-run.jsonl` beside the results, as `maxim-run --resume` does.
            Without `resume` a run records only results that lie among the inputs.
        rounding: as in a call of `Restorer`.
        self_ensemble: as in a call of `Restorer`.
        encoding: encoding of videos; None for the default.
        max_pixels: limit for images, as in `read_image`.
        drop: streams of videos to leave out: any of "audio", "subtitles" and "data".
        progress: called with each step, one call at a time. The caller's thread calls it when a
            file enters the network and after each frame of a video. The thread that wrote a file
            calls it with the result. Its exceptions end the run.
        cancel: once it is set (by any thread, or by `progress`), images in the network are
            finished, a video stops after the current frame, and no other file begins.
        load_options: options of `load`, if `restorer` is a bundle.

    Returns:
        First the results of inputs that cannot be restored, then of files that are finished, then
        of the other files in order. After cancelling, files that had not begun have no result.

    Raises:
        UsageError: an option is wrong, there is nothing to do, or a suffix cannot be written.
        ImageError: the output folder cannot be written.
        MaximDeployError: while iterating: the bundle cannot be loaded.

    Example:
        >>> import maxim_deploy
        >>> with maxim_deploy.load("build/demo") as restorer:
        ...     for result in maxim_deploy.restore_files(restorer, ["photos"], "restored"):
        ...         print(result.input, result.status, result.output or result.error)
        photos/a.jpg restored restored/a.png
    """
    check_rounding(rounding)
    check_max_pixels(max_pixels)
    plan = _plan_of(
        inputs, output, recursive=recursive, compare=compare, strict=strict, shard=shard
    )
    of_network = _settings_of(restorer, plan, load_options)
    settings = {**of_network, "rounding": rounding, "ensemble": self_ensemble}
    dropped = frozenset(drop)
    for kind in dropped:
        check_known("kind of streams to drop", kind, KINDS)
    keeps = resume or plan.shard is not None
    jobs = _jobs(plan, encoding or VideoEncoding(), max_pixels, dropped, settings, keeps)
    _make_writable(plan)
    carrier = plan.carrier
    if carrier:
        carrier.begin(progress)
        progress = carrier.follow
    run = FilesRun(
        restorer=Path(restorer) if isinstance(restorer, str) else restorer,
        plan=plan,
        jobs=jobs,
        load_options=load_options,
        of_network=of_network,
        rounding=rounding,
        self_ensemble=self_ensemble,
        resume=resume,
        progress=progress,
        cancel=cancel or threading.Event(),
    )
    # A generator starts only here, so wrong arguments raise in the call, not in the iteration.
    return carrier.deliver(run.results()) if carrier else run.results()


def _plan_of(
    inputs: FilePlan | str | Path | Iterable[str | Path],
    output: str | Path | None,
    **options: Any,
) -> FilePlan:
    """The given plan, or a new plan of the inputs; it has an output."""
    if not isinstance(inputs, FilePlan):
        plan = plan_any(inputs, output, **options)
    elif output is not None or any(options.values()):
        names = ", ".join(["output", *options])
        raise UsageError(f"{names} belong to the plan | pass them to `plan_files`")
    else:
        plan = inputs
    if plan.output is None:
        raise UsageError("name the file or folder to write as output")
    return plan


def _settings_of(
    restorer: runtime.Restorer | str | Path | JobRunner,
    plan: FilePlan,
    load_options: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings that results depend on, besides the inputs and the options of a call."""
    if isinstance(restorer, str | Path):
        return result_settings(Path(restorer), load_options)
    if load_options:
        names = ", ".join(load_options)
        raise UsageError(f"options {names} | the restorer is loaded already | pass them to `load`")
    if not isinstance(restorer, JobRunner):
        return restorer.info.settings
    if plan.carrier:
        raise UsageError("workers restore only files that all nodes see | omit URLs")
    return restorer.settings


def plan_any(
    inputs: str | Path | Iterable[str | Path], output: str | Path | None, **options: Any
) -> FilePlan:
    """Plan files as `plan_files` does; inputs and output may also be URLs of objects in stores.

    Args:
        inputs: as in `plan_files`, and URLs such as "s3://bucket/photos" or "https://host/a.jpg".
        output: as in `plan_files`, or a URL such as "s3://bucket/restored".
        options: other options of `plan_files`.

    Raises:
        UsageError: as in `plan_files`; or a URL is of a kind that cannot be read, or not written.
        MissingDependencyError: there is a URL, and the extra `cloud` is not installed.
    """
    listed = [inputs] if isinstance(inputs, str | Path) else [*inputs]
    if not any(map(is_url, [*listed, output])):
        return plan_files(listed, output, **options)
    # Imported here only: runs without URLs do not need fsspec.
    from maxim_deploy.jobs.places import plan_places

    return plan_places(listed, output, **options)


def count_finished(
    bundle: str | Path,
    plan: FilePlan,
    *,
    rounding: Rounding = "nearest",
    self_ensemble: bool = False,
    encoding: VideoEncoding | None = None,
    drop: Collection[str] = (),
    **load_options: Any,
) -> tuple[int, int]:
    """Count the finished files of runs with `resume` or of shards, during the runs or afterwards.

    A file counts as finished if a record lists it and its result exists. Contents are not read, so
    this is quick; a run with `resume` checks digests too.

    Args:
        bundle: the bundle of the runs.
        plan: the plan of the files with their output, for one shard or for all.
        rounding: as in the runs. With other options no file counts as finished.
        self_ensemble: as in the runs.
        encoding: as in the runs.
        drop: as in the runs.
        load_options: as in the runs.

    Returns:
        (finished files, files of the plan); inputs that cannot be restored count as not finished.

    Raises:
        OSError: a record cannot be read.
    """
    of_network = result_settings(Path(bundle), load_options)
    settings = {**of_network, "rounding": rounding, "ensemble": self_ensemble}
    jobs = _jobs(plan, encoding or VideoEncoding(), None, frozenset(drop), settings, True)
    finished = sum(job.record is not None and job.record.names(job.outputs) for job in jobs)
    return finished, len(jobs) + len(plan.failures)


def read_size(path: str | Path, *, max_pixels: int | None = None) -> tuple[int, int]:
    """Height and width of an upright image, or of a video's frames, without decoding pixels.

    Args:
        path: the file.
        max_pixels: limit for an image, as in `read_image`.

    Raises:
        ImageError: the image cannot be read.
        VideoError: the video cannot be read.

    Example:
        >>> import maxim_deploy
        >>> maxim_deploy.read_size("photos/a.jpg")
        (48, 64)
    """
    path = Path(path)
    if not is_video(path):
        return read_image_size(path, max_pixels=max_pixels)
    reader = VideoReader(path)
    reader.close()
    return reader.height, reader.width


def _jobs(
    plan: FilePlan,
    encoding: VideoEncoding,
    max_pixels: int | None,
    drop: frozenset[str],
    settings: dict[str, Any],
    keeps_records: bool,
) -> list[Job]:
    """A job for each file; results depend on `settings`."""
    carrier = plan.carrier
    record = carrier.record if carrier else ResumeRecord
    # Images do not depend on the encoding: another CRF restores only the videos again.
    for_images = record(settings, plan.shard)
    # The key is absent if nothing is dropped, because records of older versions lack it.
    dropped = {"drop": sorted(drop)} if drop else {}
    for_videos = record({**settings, **asdict(encoding), **dropped}, plan.shard)
    inputs_from = {os.path.realpath(source.parent) for source in plan.targets}
    jobs: list[Job] = []
    for source, target in plan.targets.items():
        comparison = comparison_beside(target) if plan.compare else None
        # A result that lies among the inputs would be an input of the next run.
        is_among = plan.into_folder and os.path.realpath(target.parent) in inputs_from
        keeps = keeps_records or is_among
        if is_video(source):
            kept = for_videos if keeps else None
            job: Job = VideoJob(source, target, comparison, kept, encoding=encoding, drop=drop)
        else:
            kept = for_images if keeps else None
            job = ImageJob(source, target, comparison, kept, max_pixels=max_pixels)
        if carrier:
            job.bring = partial(carrier.bring, source)
        jobs.append(job)
    return jobs


def _make_writable(plan: FilePlan) -> None:
    """Make the folders and check that they can be written, before the network is loaded."""
    for folder in {_folder_of(target) for target in plan.targets.values()}:
        try:
            make_folder(folder)
            remove_abandoned(folder)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ImageError(
                f"output folder {quoted(folder)} | cannot be written: {error.strerror}"
            ) from error


def _folder_of(target: Path) -> Path:
    """The folder that a file will be written in. A symbolic link is followed to its target."""
    return (Path(os.path.realpath(target)) if target.is_symlink() else target).parent
