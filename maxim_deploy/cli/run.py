"""`maxim-run`: restore image and video files with a bundle.

What can go wrong with names is found out first, then the network is loaded, then the files are
restored one by one. One background thread reads the file after, and writes the file before, the
one that is in the network.
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
    help="How results become 8 bits; the published scripts truncate, half a level dark.",
)
@click.option(
    "--ensemble",
    is_flag=True,
    help="The published mean over eight rotations and flips, at eight times the work.",
)
@click.option(
    "--codec",
    type=click.Choice(_CODECS),
    default="h264",
    show_default=True,
    help="Of videos; ffv1 is without loss.",
)
@click.option("--crf", type=int, help="Quality of videos, 0 (best) to 51.  [default: 16]")
@click.option(
    "--drop",
    metavar="KIND,...",
    default="",
    help="Streams of videos to leave out: audio, subtitles, data (attachments too).",
)
@click.option("--plan", "only_plan", is_flag=True, help="Say how each file would run; run none.")
@click.option("--recursive", is_flag=True, help="Take the files in sub-folders as well.")
@click.option("--strict", is_flag=True, help="Fail for pictures of folders that are not read.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    help="Refuse larger images.  [default: what fits the memory]",
)
@click.option("--compare", is_flag=True, help="Write STEM.before-after beside each result.")
@click.option("--resume", is_flag=True, help="Leave alone what an earlier run has finished.")
@click.option(
    "--shard", metavar="I/N", help="Restore one of N equal parts of the files, I from 0 to N-1."
)
@click.option("--status", is_flag=True, help="Say how many files are finished; restore none.")
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

    An INPUT is a file; a folder, whose images and videos are taken (hidden ones are not, and
    sub-folders only with --recursive, which makes the same sub-folders in OUT); or a pattern in
    quotes, such as 'photos/**/*.jpg'. If there is one input file and OUT has a suffix, OUT is the
    file to write and its suffix says the format: .png, .jpg, .webp, .tif or .bmp of an image, .mp4,
    .mov or .mkv of a video. Otherwise OUT is a folder, made if need be, and the results are
    OUT/STEM.png, without loss, and videos in their own container, or .mkv if that is not written.
    Earlier results are replaced; inputs never are. A folder may be restored into itself: results
    are then recorded in .maxim-run.jsonl, and are no inputs of the next run.

    Videos keep the time of each frame, their colours and bits; sound, subtitles, titles and
    chapters are copied. If one is damaged or ends too early, if the network fails or Ctrl-C is
    pressed, it has failed, and the frames that were restored are kept in STEM.incomplete.SUFFIX.

    With --resume a record of what is finished is kept beside the results, .maxim-run.jsonl. A
    later run with --resume leaves alone what is whole and was made from the same input by the
    same bundle and options; use it from the first run on.

    With --shard several runs, on any number of machines, share the files: each takes those whose
    path has its number as hash. Each keeps a record of its own, and --resume reads all of them.
    --status, with the options of the runs, says how many files the records have.

    INPUT and OUT may be URLs: of objects and prefixes as in s3://bucket/photos, and, as INPUT, of
    pictures as in https://host/a.jpg. Credentials come from the environment, as for other programs.
    Objects appear whole or not at all. Their records are objects below OUT/.maxim-run/.

    With --ray the workers of a Ray cluster restore the files, each with a network of its own and
    --threads processors, 1 unless it is given. All nodes must see the files and the bundle under
    the same paths. A worker that is lost costs what it had under way, which is restored again.

    Prints the path of each result as soon as it is written. A file that fails does not stop the
    others; the exit code is then 1. Ctrl-C finishes the current image, or frame of a video; a
    second Ctrl-C stops at once. SIGTERM and SIGHUP do what Ctrl-C does.
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
            raise UsageError("--plan reads sizes of files on this machine | leave out URLs")
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
            for _ in results:  # shown as they come, by `report`
                pass
    report.summarise(and_skipped(plan))
    if cancel.signal:
        raise Stopped(cancel.signal)
    if report.failure:
        raise report.failure
    if any(result.error for result in report.results):
        raise click.exceptions.Exit(1)
