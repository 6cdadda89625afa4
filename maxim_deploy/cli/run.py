"""`maxim-run`: restore image and video files with a bundle.

What can go wrong with names is found out first, then the network is loaded, then the files are
restored one by one. One background thread reads the file after, and writes the file before, the
one that is in the network.
"""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import maxim_deploy
from maxim_deploy._files import settled, sha256_of
from maxim_deploy.cli import shell
from maxim_deploy.errors import ImageError, UsageError
from maxim_deploy.spec.precision import PRECISIONS

if TYPE_CHECKING:
    from maxim_deploy.imaging import Rounding
    from maxim_deploy.imaging.video import Encoding
    from maxim_deploy.jobs.job import Job, Result
    from maxim_deploy.jobs.naming import Assignment

_BACKENDS = ("auto", "onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx", "torch")
_NO_MATTER = ("threads", "device")
"""Options of `load` that change how fast a result comes, and not what it is."""

_LATER_OPTIONS = ("device", "tile", "overlap", "max_memory")
"""Options of `load` whose defaults are the runtime's."""


_CODECS = ("h264", "ffv1")


@click.command("maxim-run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", help="File or folder to write; --plan needs none.")
@click.option("--backend", type=click.Choice(_BACKENDS), default="auto")
@click.option("--precision", type=click.Choice(["auto", *PRECISIONS]), default="auto")
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "truncate"]),
    default="nearest",
    help="How results become 8 bits; the published scripts truncate, half a level dark.",
)
@click.option(
    "--ensemble",
    is_flag=True,
    help="The published mean over eight rotations and flips, at eight times the work.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the backend.")
@click.option("--device", type=click.IntRange(min=0), help="Index of the GPU.  [default: 0]")
@click.option(
    "--tile",
    callback=lambda _ctx, _param, tile: int(tile) if tile and tile.isdecimal() else tile,
    metavar="auto|off|N",
    help="Run in tiles what does not fit the memory; never; or what is larger than N.",
)
@click.option("--overlap", type=int, help="Pixels that tiles share at least.  [default: 64]")
@click.option(
    "--max-memory", metavar="SIZE", help="Most memory, such as 4GiB: of this process, or of a GPU."
)
@click.option(
    "--codec",
    type=click.Choice(_CODECS),
    default="h264",
    show_default=True,
    help="Of videos; ffv1 is without loss.",
)
@click.option("--crf", type=int, help="Quality of videos, 0 (best) to 51.  [default: 16]")
@click.option("--plan", "only_plan", is_flag=True, help="Say how each file would run; run none.")
@click.option("--recursive", is_flag=True, help="Take the files in sub-folders as well.")
@click.option("--compare", is_flag=True, help="Write STEM.before-after beside each result.")
@click.option("--resume", is_flag=True, help="Leave alone what an earlier run has finished.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on stdout.")
@shell.common_options
def run(
    bundle: Path,
    inputs: tuple[str, ...],
    output: str | None,
    rounding: Rounding,
    ensemble: bool,
    codec: str,
    crf: int | None,
    only_plan: bool,
    recursive: bool,
    compare: bool,
    resume: bool,
    as_json: bool,
    **load_options: Any,
) -> None:
    """Restore images and videos with the network in BUNDLE.

    An INPUT is a file; a folder, whose images and videos are taken (hidden ones are not, and
    sub-folders only with --recursive, which makes the same sub-folders in OUT); or a pattern in
    quotes, such as 'photos/**/*.jpg'. If there is one input file and OUT has a suffix, OUT is the
    file to write and its suffix says the format: .png, .jpg, .webp, .tif or .bmp of an image, .mp4,
    .mov or .mkv of a video. Otherwise OUT is a folder, made if need be, and the results are
    OUT/STEM.png, without loss, and videos in their own container, or .mkv if that is not written.
    Earlier results are replaced; inputs never are.

    Videos keep the time of each frame, their colours and bits; sound, subtitles, titles and
    chapters are copied. If one is damaged or ends too early, if the network fails or Ctrl-C is
    pressed, it has failed, and the frames that were restored are kept in STEM.incomplete.SUFFIX.

    With --resume a record of what is finished is kept beside the results, .maxim-run.jsonl. A
    later run with --resume leaves alone what is whole and was made from the same input by the
    same bundle and options; use it from the first run on.

    Prints the path of each result as soon as it is written. A file that fails does not stop the
    others; the exit code is then 1. Ctrl-C stops after the current image, or frame of a video, a
    second one at once.
    """
    from maxim_deploy.cli._report import show, show_plans, summarise
    from maxim_deploy.imaging.video import Encoding
    from maxim_deploy.jobs.naming import and_skipped, plan_runs
    from maxim_deploy.jobs.pipeline import restore_all

    load_options = {
        name: value
        for name, value in load_options.items()
        if value is not None or name not in _LATER_OPTIONS
    }
    encoding = Encoding(codec, crf)
    sources = [Path(name) for name in inputs]
    if output is None and not only_plan:
        raise UsageError("name the file or folder to write with -o OUT")
    plan = plan_runs(sources, output, recursive=recursive, compare=compare)
    if only_plan:
        show_plans(bundle, plan, load_options, ensemble, as_json)
        return
    for folder in {target.parent for target in plan.targets.values()}:
        _make_writable(folder)
    what = {"rounding": rounding, "ensemble": ensemble, **load_options}
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        show(result, as_json)

    for failure in plan.failures:
        report(failure)
    jobs = []
    for job in _jobs(plan, compare, encoding, _settings(bundle, what) if resume else None):
        if job.is_finished() or job.result.error:
            report(job.result)
        else:
            jobs.append(job)
    started, interrupted = time.perf_counter(), False
    if jobs:
        with maxim_deploy.load(bundle, **load_options) as restorer:
            started = time.perf_counter()
            network = functools.partial(restorer, rounding=rounding, self_ensemble=ensemble)
            with shell.progress_bar(len(jobs)) as bar:
                interrupted = restore_all(jobs, network, report, bar, shell.say)
    summarise(results, time.perf_counter() - started, and_skipped(plan.skipped))
    if interrupted:
        raise KeyboardInterrupt
    if any(result.error for result in results):
        raise click.exceptions.Exit(1)


def _jobs(
    plan: Assignment, compare: bool, encoding: Encoding, settings: dict[str, Any] | None
) -> list[Job]:
    """A job for each file.

    Args:
        plan: which file becomes which.
        compare: whether to show before and after side by side.
        encoding: of videos.
        settings: what results depend on, if a record is to be kept.
    """
    from maxim_deploy.imaging.video import is_video
    from maxim_deploy.jobs.job import ImageJob
    from maxim_deploy.jobs.naming import comparison_beside
    from maxim_deploy.jobs.record import ResumeRecord
    from maxim_deploy.jobs.video import VideoJob

    for_images = for_videos = None
    if settings is not None:
        for_images = ResumeRecord(settings)
        for_videos = ResumeRecord({**settings, **asdict(encoding)})
    jobs: list[Job] = []
    for source, target in plan.targets.items():
        comparison = comparison_beside(target) if compare else None
        if is_video(source):
            jobs.append(VideoJob(source, target, comparison, for_videos, encoding=encoding))
        else:
            jobs.append(ImageJob(source, target, comparison, for_images))
    return jobs


def _settings(bundle: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What results depend on besides their inputs; another manifest is another bundle."""
    manifest = settled(bundle) / "manifest.json"
    return {
        "maxim_deploy": maxim_deploy.__version__,
        "bundle": sha256_of(manifest) if manifest.exists() else None,  # `load` says what is wrong
        **{name: value for name, value in options.items() if name not in _NO_MATTER},
    }


def _make_writable(folder: Path) -> None:
    """Make the folder and prove that files can be made in it, before the network is loaded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ImageError(
            f"output folder '{folder}' | cannot be written: {error.strerror}"
        ) from error
