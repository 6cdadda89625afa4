"""Which file becomes which: found out before anything is read."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from maxim_deploy.errors import ImageError, UsageError
from maxim_deploy.imaging.files import INPUT_SUFFIXES, check_input_file, check_output_suffix
from maxim_deploy.imaging.video.names import (
    check_video_output,
    has_video_suffix,
    is_video,
    result_suffix,
)
from maxim_deploy.jobs.job import FileResult


@dataclass
class FilePlan:
    """Which file becomes which.

    Attributes:
        output: the file or folder to write; None for a plan that only lists its inputs.
        compare: whether each file also becomes a before/after beside its result.
        targets: the file that each input becomes; in a plan without an output, its true path.
        failures: inputs that cannot be restored, with the reason.
        skipped: files of other suffixes that folders and patterns have.
    """

    output: str | None = None
    compare: bool = False
    targets: dict[Path, Path] = field(default_factory=dict)
    failures: list[FileResult] = field(default_factory=list)
    skipped: int = 0

    def refuse(self, source: Path, why: Exception) -> None:
        """Note that `source` will not be restored."""
        self.failures.append(FileResult.failure(source, why))

    def assign(self, wishes: dict[Path, Path]) -> None:
        """Grant each target to its only claimant, unless it is one of the inputs."""
        originals = {os.path.realpath(source) for source in wishes}
        originals.update(os.path.realpath(failure.input) for failure in self.failures)
        claims: dict[Path, list[Path]] = {}
        for source, target in wishes.items():
            for path in _written(target, self.compare):
                claims.setdefault(path, []).append(source)
        for source, target in wishes.items():
            for path in _written(target, self.compare):
                why, others = None, [f"'{rival}'" for rival in claims[path] if rival != source]
                if others:
                    advice = "restore them into separate folders"
                    why = f"is claimed by {', '.join(others)} too | {advice}"
                elif os.path.realpath(path) in originals:
                    why = "would overwrite an input | give another OUT"
                if why:
                    self.refuse(source, UsageError(f"output '{path}' {why}"))
                    break
            else:
                self.targets[source] = target


def plan_files(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path | None,
    *,
    recursive: bool = False,
    compare: bool = False,
) -> FilePlan:
    """Give each input its target; refuse those that would overwrite each other or an input.

    If there is one input file and `output` has a suffix, `output` is the file to write. Otherwise
    it is a folder, and the results in it are STEM.png of images, and videos in their own container,
    or .mkv if that is not written. Nothing is read but the names, and nothing is written.

    Args:
        inputs: files, folders (their images and videos), and patterns such as "photos/**/*.jpg".
        output: a file or a folder; None if nothing will be written.
        recursive: folders mean what is in their sub-folders too, which `output` then has as well.
        compare: each file also becomes a before/after, STEM.before-after, beside its target.

    Returns:
        The targets, and the inputs that cannot be restored with the reason.

    Raises:
        UsageError: there is nothing to do, or `output` is a file of an unknown suffix.

    Example:
        >>> import maxim_deploy
        >>> plan = maxim_deploy.plan_files(["photos", "nowhere.png"], "restored")
        >>> [(str(source), str(target)) for source, target in plan.targets.items()]
        [('photos/a.jpg', 'restored/a.png')]
        >>> [failure.error for failure in plan.failures]
        ["image 'nowhere.png' | cannot be read: No such file or directory"]
    """
    listed = [inputs] if isinstance(inputs, str | Path) else inputs
    sources = [Path(given) for given in listed]
    plan = FilePlan(None if output is None else os.fspath(output), compare)
    target_of = _naming(sources, plan.output)
    wishes: dict[tuple[Path, str], Path] = {}
    named: set[Path] = set()
    for given in dict.fromkeys(sources):
        for source, folder in _sources(given, plan, recursive):
            # Keyed by the true path: an input that is listed twice is done once.
            if source not in named:
                key = target_of(source, folder), os.path.realpath(source)
                named.add(wishes.setdefault(key, source))
    targets = {source: target for (target, _), source in wishes.items()}
    if plan.output is None:
        plan.targets = targets
    else:
        plan.assign(targets)
    if not plan.targets and not plan.failures:
        quoted = ", ".join(f"'{given}'" for given in sources)
        raise UsageError(
            f"inputs {quoted} | no image or video files in there{and_skipped(plan.skipped)}"
        )
    return plan


def comparison_beside(target: Path) -> Path:
    """Where the before/after picture or video of a result goes."""
    suffix = target.suffix if is_video(target) else ".png"
    return target.with_name(f"{target.stem}.before-after{suffix}")


def incomplete_beside(target: Path) -> Path:
    """Where the frames go that a video had before something went wrong."""
    return target.with_name(f"{target.stem}.incomplete{target.suffix}")


def and_skipped(count: int) -> str:
    """The end of a sentence about files of a folder that were left alone."""
    return f"; skipped {count} of other suffixes" if count else ""


def _naming(inputs: list[Path], output: str | None) -> Callable[[Path, Path], Path]:
    """The target of a source, by its path and the folder below the output that it belongs in."""
    if output is None:
        return lambda source, _: source.resolve()
    if _means_file(inputs, output):
        return lambda _source, _folder: Path(output)
    return lambda source, folder: Path(output) / folder / _result_name(source)


def _means_file(inputs: list[Path], output: str) -> bool:
    one_file = len({os.path.realpath(given) for given in inputs}) == 1 and inputs[0].is_file()
    ends_as_folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    if not one_file or ends_as_folder or not Path(output).suffix:
        return False
    check = check_video_output if is_video(inputs[0]) else check_output_suffix
    check(Path(output))
    return True


def _result_name(source: Path) -> str:
    return f"{source.stem}{result_suffix(source) if is_video(source) else '.png'}"


def _sources(given: Path, plan: FilePlan, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """The files that an input stands for, and the folder below the output that each belongs in.

    Those that cannot be read go to `plan.failures`, and others are counted in `plan.skipped`.
    """
    if given.is_dir():
        # The folder of earlier results may lie in an input; they are no inputs.
        skip = Path(plan.output).resolve() if plan.output else None
        entries = _files_in(given, plan, recursive, skip)
    elif glob.has_magic(str(given)) and not os.path.lexists(given):
        entries = _matches(given, plan)
    else:
        entries = iter([given])
    for entry in entries:
        try:
            check_input_file(entry, "video" if is_video(entry) else "image")
            inside = entry.parent.relative_to(given) if given in entry.parents else Path()
            yield entry, inside
        except ImageError as error:
            plan.refuse(entry, error)


def _files_in(folder: Path, plan: FilePlan, recursive: bool, skip: Path | None) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        plan.refuse(folder, ImageError(f"cannot be listed: {error.strerror}"))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            yield from _if_known(entry, plan)
        elif recursive and not entry.is_symlink() and entry.resolve() != skip:
            yield from _files_in(entry, plan, recursive, skip)


def _matches(pattern: Path, plan: FilePlan) -> Iterator[Path]:
    """As a folder is its images and videos, a pattern is those that it matches."""
    # `Path.glob` takes no absolute patterns.
    names = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207
    files = [path for path in map(Path, names) if not path.is_dir()]
    if not files:
        plan.refuse(pattern, ImageError("no file has such a name"))
    for path in files:
        yield from _if_known(path, plan)


def _if_known(path: Path, plan: FilePlan) -> Iterator[Path]:
    if path.suffix.lower() in INPUT_SUFFIXES or has_video_suffix(path):
        yield path
    else:
        plan.skipped += 1


def _written(target: Path, compare: bool) -> list[Path]:
    paths = [target, incomplete_beside(target)] if is_video(target) else [target]
    return [*paths, comparison_beside(target)] if compare else paths
