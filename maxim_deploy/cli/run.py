"""`maxim-run`: restore image and video files with a bundle.

The command checks all names first, then loads the network, then restores the files one by one. A
background thread reads the next file and writes the previous one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy.cli import shell
from maxim_deploy.cli._loading_options import loading_options
from maxim_deploy.cli._ray import check_ray_options, ray_options, ray_workers_of
from maxim_deploy.cli._signals import Cancellation, Stopped, cancelled_by_signals
from maxim_deploy.errors import UsageError

if TYPE_CHECKING:
    from maxim_deploy.imaging import Rounding
    from maxim_deploy.serving.ray_workers import RayWorkers

_CODECS = ("h264", "ffv1")


@click.command("maxim-run")
@click.argument("bundle", type=shell.PATH)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", help="File or folder to write; --plan needs none.")
@loading_options
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "truncate"]),
    default="nearest",
    help="Rounding of results to integers; truncate, as published, darkens by half a level.",
)
@click.option(
    "--ensemble",
    is_flag=True,
    help="Average over eight rotations and flips, as published; takes eight times as long.",
)
@click.option(
    "--codec",
    type=click.Choice(_CODECS),
    default="h264",
    show_default=True,
    help="Codec of videos; ffv1 is lossless.",
)
@click.option("--crf", type=int, help="Quality of videos, 0 (best) to 51.  [default: 16]")
@click.option(
    "--drop",
    metavar="KIND,...",
    default="",
    help="Streams of videos to leave out: audio, subtitles, data (attachments too).",
)
@click.option("--plan", "only_plan", is_flag=True, help="Show how each file would run; run none.")
@click.option("--recursive", is_flag=True, help="Take the files in sub-folders as well.")
@click.option(
    "--strict", is_flag=True, help="Fail if a folder has pictures in unsupported formats."
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    help="Refuse images with more pixels.  [default: what fits the memory]",
)
@click.option("--compare", is_flag=True, help="Write STEM.before-after beside each result.")
@click.option("--resume", is_flag=True, help="Skip files that an earlier run has finished.")
@click.option(
    "--shard", metavar="I/N", help="Restore one of N equal parts of the files; I is 0 to N-1."
)
@click.option("--status", is_flag=True, help="Show how many files are finished; restore none.")
@ray_options
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
    drop: str,
    only_plan: bool,
    recursive: bool,
    strict: bool,
    max_pixels: int | None,
    compare: bool,
    resume: bool,
    shard: str | None,
    status: bool,
    ray: str | None,
    workers: int | tuple[int, int] | None,
    gpus_per_worker: float | None,
    as_json: bool,
    **load_options: Any,
) -> None:
    """Restore images and videos with the network in BUNDLE.

    An INPUT is a file, a folder, or a pattern in quotes such as 'photos/**/*.jpg'. A folder stands
    for its images and videos, without hidden files. --recursive adds its sub-folders and makes the
    same sub-folders in OUT.

    If there is one input file and OUT has a suffix, OUT is the file to write. The suffix selects
    the format: .png, .jpg, .webp, .tif or .bmp for an image; .mp4, .mov or .mkv for a video.
    Otherwise OUT is a folder, which is made if it is missing. An image becomes OUT/STEM.png,
    without loss. A video keeps its container, or becomes .mkv if its container cannot be written.
    Earlier results are replaced; inputs never are. A folder may be restored into itself. The
    results are then recorded in .maxim-run.jsonl and are not inputs of the next run.

    Videos keep the time of each frame, their colours and their bit depth. Sound, subtitles, titles
    and chapters are copied. A video fails if it is damaged or ends too early, if the network fails,
    or if Ctrl-C is pressed. Its restored frames are then kept in STEM.incomplete.SUFFIX.

    --resume records finished files beside the results, in .maxim-run.jsonl. A later run with
    --resume skips each result that is whole and was made from the same input by the same bundle and
    options. Use it from the first run on.

    With --shard several runs, on any number of machines, share the files. Each run takes the files
    whose path hashes to its number. Each run writes its own record, and --resume reads all records.
    --status, with the options of the runs, shows how many files the records list as finished.

    INPUT and OUT may be URLs of objects and prefixes, such as s3://bucket/photos. INPUT may also be
    the URL of a picture, such as https://host/a.jpg. Credentials come from the environment.
    Objects appear whole or not at all. Their records are objects below OUT/.maxim-run/.

    With --ray the workers of a Ray cluster restore the files. Each worker loads its own network and
    uses --threads processors, 1 by default. All nodes must see the files and the bundle under the
    same paths. If a worker is lost, the files that it was restoring are restored again.

    Prints the path of each result as soon as it is written. A file that fails does not stop the
    others; the exit code is then 1. Ctrl-C finishes the current image, or frame of a video; a
    second Ctrl-C stops immediately. SIGTERM and SIGHUP act like Ctrl-C.
    """
    from maxim_deploy.cli._report import RunReport, show_plans, show_status
    from maxim_deploy.imaging.video import VideoEncoding
    from maxim_deploy.jobs.naming import and_skipped
    from maxim_deploy.jobs.restore import count_finished, plan_any, restore_files
    from maxim_deploy.jobs.shards import Shard

    load_options = {name: value for name, value in load_options.items() if value is not None}
    of_ray = {"--workers": workers, "--gpus-per-worker": gpus_per_worker}
    not_with_ray = {"--shard": shard, "--plan": only_plan, "--status": status}
    check_ray_options(ray, {**of_ray, **not_with_ray})
    encoding = VideoEncoding(codec, crf)
    if output is None and not only_plan:
        raise UsageError("name the file or folder to write with -o OUT")
    plan = plan_any(
        inputs,
        output,
        recursive=recursive,
        compare=compare,
        strict=strict,
        shard=None if shard is None else Shard.parse(shard),
    )
    what_results_need: dict[str, Any] = {
        "rounding": rounding,
        "self_ensemble": ensemble,
        "encoding": encoding,
        "drop": [kind.strip() for kind in drop.split(",") if kind.strip()],
    }
    if status:
        show_status(count_finished(bundle, plan, **what_results_need, **load_options), as_json)
        return
    if only_plan:
        if plan.carrier:
            raise UsageError("--plan reads sizes of local files only | omit URLs")
        show_plans(bundle, plan, load_options, ensemble, as_json, max_pixels)
        return
    restorer: Path | RayWorkers = bundle
    if ray is not None:
        restorer = ray_workers_of(bundle, load_options, ray, workers, gpus_per_worker)
        load_options = {}
    with shell.progress_bar() as bar:
        cancel = Cancellation()
        report = RunReport(as_json, bar, cancel)
        with cancelled_by_signals(cancel, lambda: report.is_restoring, shell.complain):
            results = restore_files(
                restorer,
                plan,
                resume=resume,
                max_pixels=max_pixels,
                progress=report.follow,
                cancel=cancel,
                **what_results_need,
                **load_options,
            )
            for _ in results:  # `report` shows each result as it comes
                pass
    report.summarise(and_skipped(plan))
    if cancel.signal:
        raise Stopped(cancel.signal)
    if report.failure:
        raise report.failure
    if any(result.error for result in report.results):
        raise click.exceptions.Exit(1)
