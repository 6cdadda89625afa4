"""`maxim-run`: restore image files with a bundle.

What can go wrong with names is found out first, then the network is loaded, then the files are
restored one by one. One background thread reads the file after, and writes the file before, the
one that is in the network.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import maxim_deploy
from maxim_deploy.cli import shell
from maxim_deploy.errors import ImageError, MaximDeployError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from maxim_deploy.imaging import Rounding
    from maxim_deploy.imaging.files import Picture

    Pixels = NDArray[np.uint8]
    Network = Callable[[Pixels], Pixels]

logger = logging.getLogger(__name__)


@dataclass
class Result:
    """What became of one file; the fields are those of a line of `--json`.

    `seconds` were spent on this file, reading and writing included, `network_seconds` of them in
    the network. Files overlap, so that the seconds of all add up to more than has passed.
    """

    input: str
    output: str | None = None
    status: str = "failed"
    error: str | None = None
    height: int | None = None
    width: int | None = None
    seconds: float = 0.0
    network_seconds: float = 0.0

    def fail(self, why: object) -> None:
        """Set the error; it names the input even where the exception does not know it."""
        text = str(why)
        self.error = text if f"'{self.input}'" in text else f"image '{self.input}' | {text}"


@dataclass
class Plan:
    """Which file becomes which, what failed before anything ran, and how many were no images."""

    targets: dict[Path, Path] = field(default_factory=dict)
    failures: list[Result] = field(default_factory=list)
    skipped: int = 0

    def refuse(self, source: Path, why: object) -> None:
        """Note that `source` will not be restored."""
        failure = Result(str(source))
        failure.fail(why)
        self.failures.append(failure)


@dataclass
class Job:
    """One file on its way through reading, the network and writing; after an error it stands."""

    source: Path
    target: Path
    picture: Picture | None = None
    restored: Pixels | None = None

    def __post_init__(self) -> None:
        self.result = Result(str(self.source))

    def read(self) -> Job:
        """Read the picture, and check that its output can hold it before the network works."""
        from maxim_deploy.imaging.files import check_output_holds, read_image

        with self._step():
            picture = read_image(self.source)
            self.result.height, self.result.width = picture.rgb.shape[:2]
            check_output_holds(self.target, picture)
            self.picture = picture
        return self

    def restore(self, network: Network) -> None:
        """Restore what was read."""
        if self.picture is None:
            return
        before = self.result.seconds
        with self._step():
            self.restored = network(self.picture.rgb)
        self.result.network_seconds = self.result.seconds - before
        logger.info("'%s': %.3f s in the network", self.source, self.result.network_seconds)

    def write(self) -> None:
        """Write what was restored."""
        from maxim_deploy.imaging.files import write_image

        if self.restored is None:
            return
        with self._step():
            write_image(self.target, self.restored, like=self.picture)
            self.result.output, self.result.status = str(self.target), "restored"

    @contextmanager
    def _step(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except (MaximDeployError, MemoryError, OSError) as error:
            self.result.fail(str(error) or "not enough memory")
        finally:
            self.result.seconds += time.perf_counter() - started


@click.command("maxim-run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", required=True, help="File or folder to write.")
@click.option("--backend", type=click.Choice(["auto", "onnxruntime"]), default="auto")
@click.option("--precision", type=click.Choice(["auto", "fp32", "fp16"]), default="auto")
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "truncate"]),
    default="nearest",
    help="How results become 8 bits; the published scripts truncate, half a level dark.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the backend.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on stdout.")
@shell.common_options
def run(
    bundle: Path,
    inputs: tuple[str, ...],
    output: str,
    rounding: Rounding,
    as_json: bool,
    **load_options: Any,
) -> None:
    """Restore images with the network in BUNDLE.

    An INPUT is an image file, or a folder whose image files are taken (sub-folders and hidden
    files are not). If there is one input file and OUT has a suffix, OUT is the file to write and
    its suffix says the format: .png, .jpg, .webp, .tif or .bmp. Otherwise OUT is a folder, made
    if need be, and the results are OUT/STEM.png, without loss. Earlier results are replaced;
    inputs never are.

    Prints the path of each result as soon as it is written. A file that fails does not stop the
    others; the exit code is then 1.
    """
    plan = _plan([Path(name) for name in inputs], output)
    for folder in {target.parent for target in plan.targets.values()}:
        _make_writable(folder)
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        _show(result, as_json)

    for failure in plan.failures:
        report(failure)
    started = time.perf_counter()
    if plan.targets:
        with maxim_deploy.load(bundle, **load_options) as restorer:
            started = time.perf_counter()
            _restore_all(plan.targets, functools.partial(restorer, rounding=rounding), report)
    _summarise(results, plan.skipped, time.perf_counter() - started)
    if any(result.error for result in results):
        raise click.exceptions.Exit(1)


def _plan(inputs: list[Path], output: str) -> Plan:
    """Give each source its target; refuse those that would overwrite each other or an input.

    Raises:
        UsageError: there is nothing to do, or `output` is a file of an unknown suffix.
    """
    plan = Plan()
    is_file = _means_file(inputs, output)
    claims: dict[Path, dict[str, Path]] = {}
    for source in (source for given in dict.fromkeys(inputs) for source in _sources(given, plan)):
        target = Path(output) if is_file else Path(output) / f"{source.stem}.png"
        # Keyed by the true path: an input that is listed twice is done once.
        claims.setdefault(target, {}).setdefault(os.path.realpath(source), source)
    originals = {original for rivals in claims.values() for original in rivals}
    originals.update(os.path.realpath(failure.input) for failure in plan.failures)
    for target, rivals in claims.items():
        _settle(plan, target, list(rivals.values()), originals)
    if not plan.targets and not plan.failures:
        listed = ", ".join(f"'{given}'" for given in inputs)
        raise UsageError(f"inputs {listed} | no image files in there{_and_skipped(plan.skipped)}")
    return plan


def _means_file(inputs: list[Path], output: str) -> bool:
    from maxim_deploy.imaging.files import check_output_suffix

    one_file = len({os.path.realpath(given) for given in inputs}) == 1 and inputs[0].is_file()
    ends_as_folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    if not one_file or ends_as_folder or not Path(output).suffix:
        return False
    check_output_suffix(Path(output))
    return True


def _sources(given: Path, plan: Plan) -> Iterator[Path]:
    """The files that an input stands for; those that cannot be read go to `plan.failures`."""
    from maxim_deploy.imaging.files import INPUT_SUFFIXES, check_input_file

    try:
        entries = sorted(given.iterdir()) if given.is_dir() else [given]
    except OSError as error:
        plan.refuse(given, f"cannot be listed: {error.strerror}")
        return
    for entry in entries:
        if entry is not given and (entry.name.startswith(".") or entry.is_dir()):
            continue
        if entry is not given and entry.suffix.lower() not in INPUT_SUFFIXES:
            plan.skipped += 1
            continue
        try:
            check_input_file(entry)
            yield entry
        except ImageError as error:
            plan.refuse(entry, error)


def _settle(plan: Plan, target: Path, rivals: list[Path], originals: set[str]) -> None:
    """Grant `target` to its only claimant, unless it is one of the inputs."""
    if len(rivals) == 1 and os.path.realpath(target) not in originals:
        plan.targets[rivals[0]] = target
        return
    for source in rivals:
        others = ", ".join(f"'{rival}'" for rival in rivals if rival != source)
        plan.refuse(
            source,
            f"output '{target}' is claimed by {others} too | restore them into separate folders"
            if others
            else f"output '{target}' would overwrite an input | give another OUT",
        )


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


def _restore_all(
    targets: dict[Path, Path], network: Network, report: Callable[[Result], None]
) -> None:
    """Restore in order; one thread reads the next file and writes the one before."""
    with (
        shell.progress_bar(len(targets)) as advance,
        ThreadPoolExecutor(max_workers=1) as background,
    ):

        def finish(job: Job) -> None:
            job.write()
            report(job.result)
            advance()

        finishing: Future[None] | None = None
        for job in _read_ahead(targets, background):
            job.restore(network)
            if finishing:
                finishing.result()  # no more than one waits, and what went wrong there shows
            finishing = background.submit(finish, job)
        if finishing:
            finishing.result()


def _read_ahead(targets: dict[Path, Path], background: Executor) -> Iterator[Job]:
    reading: Future[Job] | None = None
    for source, target in targets.items():
        following = background.submit(Job(source, target).read)
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


def _summarise(results: list[Result], skipped: int, seconds: float) -> None:
    failures = [result for result in results if result.error]
    share = sum(result.network_seconds for result in results) / seconds
    shell.say(
        f"{len(results) - len(failures)} restored, {len(failures)} failed in {seconds:.1f} s, "
        f"{share:.0%} of it in the network{_and_skipped(skipped)}"
    )
    for failure in failures:
        shell.say(f"  {failure.error}")


def _and_skipped(count: int) -> str:
    return f"; skipped {count} of other suffixes" if count else ""
