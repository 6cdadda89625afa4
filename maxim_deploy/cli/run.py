"""`maxim-run`: restore image files with a bundle.

What can go wrong with names is found out first, then the network is loaded, then the files are
restored one by one. One background thread reads the file after, and writes the file before, the
one that is in the network.
"""

from __future__ import annotations

import functools
import json
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import maxim_deploy
from maxim_deploy._files import settled, sha256_of
from maxim_deploy.cli import shell
from maxim_deploy.errors import ImageError, MaximDeployError, UsageError

if TYPE_CHECKING:
    from maxim_deploy.cli._job import Job, Network, Result
    from maxim_deploy.cli._plan import Plan as FilePlan
    from maxim_deploy.imaging import Rounding

_BACKENDS = ("auto", "onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx")
_NO_MATTER = ("threads", "device")
"""Options of `load` that change how fast a result comes, and not what it is."""

_LATER_OPTIONS = ("device", "tile", "overlap", "max_memory")
"""Options of `load` whose defaults are the runtime's."""


class _TileSide(click.ParamType[Any]):
    """What `load` takes as `tile`, which checks the rest."""

    name = "tile"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002
        """A number as one; words as they are."""
        return int(value) if str(value).isdigit() else value


@click.command("maxim-run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", help="File or folder to write; with --plan, none.")
@click.option("--backend", type=click.Choice(_BACKENDS), default="auto")
@click.option("--precision", type=click.Choice(["auto", "fp32", "fp16", "bf16"]), default="auto")
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
    type=_TileSide(),
    metavar="auto|off|N",
    help="Run in tiles what does not fit the memory; never; or what is larger than N.",
)
@click.option("--overlap", type=int, help="Pixels that tiles share at least.  [default: 64]")
@click.option(
    "--max-memory", metavar="SIZE", help="Most memory, such as 4GiB: of this process, or of a GPU."
)
@click.option("--plan", "only_plan", is_flag=True, help="Say how each image would run; run none.")
@click.option("--recursive", is_flag=True, help="Take the files in sub-folders as well.")
@click.option("--compare", is_flag=True, help="Write STEM.before-after.png beside each result.")
@click.option("--resume", is_flag=True, help="Leave alone what an earlier run has finished.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on stdout.")
@shell.common_options
def run(
    bundle: Path,
    inputs: tuple[str, ...],
    output: str | None,
    rounding: Rounding,
    ensemble: bool,
    only_plan: bool,
    recursive: bool,
    compare: bool,
    resume: bool,
    as_json: bool,
    **load_options: Any,
) -> None:
    """Restore images with the network in BUNDLE.

    An INPUT is an image file; a folder, whose image files are taken (hidden ones are not, and
    sub-folders only with --recursive, which makes the same sub-folders in OUT); or a pattern in
    quotes, such as 'photos/**/*.jpg'. If there is one input file and OUT has a suffix, OUT is the
    file to write and its suffix says the format: .png, .jpg, .webp, .tif or .bmp. Otherwise OUT is
    a folder, made if need be, and the results are OUT/STEM.png, without loss. Earlier results are
    replaced; inputs never are.

    With --resume a record of what is finished is kept beside the results, .maxim-run.jsonl. A
    later run with --resume leaves alone what is whole and was made from the same input by the
    same bundle and options; use it from the first run on.

    Prints the path of each result as soon as it is written. A file that fails does not stop the
    others; the exit code is then 1. Ctrl-C stops after the current file, a second one at once.
    """
    from maxim_deploy.cli._job import Job
    from maxim_deploy.cli._plan import and_skipped, comparison_beside, plan_runs
    from maxim_deploy.cli._record import Record

    load_options = {
        name: value
        for name, value in load_options.items()
        if value is not None or name not in _LATER_OPTIONS
    }
    sources = [Path(name) for name in inputs]
    if only_plan:
        _show_plans(bundle, plan_runs(sources, "plan", recursive=recursive), load_options, as_json)
        return
    if output is None:
        raise UsageError("name the file or folder to write with -o OUT")
    plan = plan_runs(sources, output, recursive=recursive, compare=compare)
    for folder in {target.parent for target in plan.targets.values()}:
        _make_writable(folder)
    record = None
    if resume:
        what = {"rounding": rounding, "ensemble": ensemble, **load_options}
        record = Record(_settings(bundle, {k: v for k, v in what.items() if k not in _NO_MATTER}))
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        _show(result, as_json)

    for failure in plan.failures:
        report(failure)
    jobs = []
    for source, target in plan.targets.items():
        job = Job(source, target, comparison_beside(target) if compare else None, record)
        if job.is_finished() or job.result.error:
            report(job.result)
        else:
            jobs.append(job)
    started, interrupted = time.perf_counter(), False
    if jobs:
        with maxim_deploy.load(bundle, **load_options) as restorer:
            started = time.perf_counter()
            network = functools.partial(restorer, rounding=rounding, self_ensemble=ensemble)
            interrupted = _restore_all(jobs, network, report)
    _summarise(results, time.perf_counter() - started, and_skipped(plan.skipped))
    if interrupted:
        raise KeyboardInterrupt
    if any(result.error for result in results):
        raise click.exceptions.Exit(1)


def _show_plans(bundle: Path, plan: FilePlan, options: dict[str, Any], as_json: bool) -> None:
    """For each image a line of text or JSON that says how it would be run.

    Raises:
        Exit: an image cannot be read, or cannot be run within the memory.
    """
    from maxim_deploy.imaging.files import read_image

    failed = bool(plan.failures)
    for failure in plan.failures:
        _show(failure, as_json)
    with maxim_deploy.load(bundle, **options) as restorer:
        for source in plan.targets:
            try:
                height, width = read_image(source).rgb.shape[:2]
                how = restorer.plan(height, width)
            except MaximDeployError as error:
                shell.say(f"failed: image '{source}' | {error}")
                failed = True
                continue
            record = {"input": str(source), **asdict(how)}
            shell.emit(json.dumps(record) if as_json else f"{source} {how}")
    if failed:
        raise click.exceptions.Exit(1)


def _settings(bundle: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What results depend on besides their inputs; another manifest is another bundle."""
    manifest = settled(bundle) / "manifest.json"
    return {
        "maxim_deploy": maxim_deploy.__version__,
        "bundle": sha256_of(manifest) if manifest.exists() else None,  # `load` says what is wrong
        **options,
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


def _restore_all(jobs: list[Job], network: Network, report: Callable[[Result], None]) -> bool:
    """Restore in order; one thread reads the next file and writes the one before.

    Returns:
        Whether Ctrl-C was pressed; then files may be left over.
    """
    with (
        shell.progress_bar(len(jobs)) as advance,
        _patience() as asked_to_stop,
        ThreadPoolExecutor(max_workers=1) as background,
    ):

        def finish(job: Job) -> None:
            job.write()
            report(job.result)
            advance()

        finishing: Future[None] | None = None
        for job in _read_ahead(jobs, background):
            if asked_to_stop():
                break
            job.restore(network)
            if finishing:
                finishing.result()  # no more than one waits, and what went wrong there shows
            finishing = background.submit(finish, job)
        if finishing:
            finishing.result()
        return asked_to_stop()


@contextmanager
def _patience() -> Iterator[Callable[[], bool]]:
    """While the block runs, the first Ctrl-C only makes what it yields true, and says so."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.set()
        shell.say("interrupted: the current file will be finished; Ctrl-C again stops at once")

    # Whoever has another handler, or ignores the signal as a job in the background does, keeps it.
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield asked.is_set
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _read_ahead(jobs: list[Job], background: Executor) -> Iterator[Job]:
    reading: Future[Job] | None = None
    for job in jobs:
        following = background.submit(job.read)
        if reading:
            yield reading.result()
        reading = following
    if reading:
        yield reading.result()


def _show(result: Result, as_json: bool) -> None:
    if result.error:
        shell.say(f"failed: {result.error}")
    if as_json:
        shell.emit(json.dumps(asdict(result)))
    elif result.output:
        shell.emit(result.output)


def _summarise(results: list[Result], seconds: float, ending: str) -> None:
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
