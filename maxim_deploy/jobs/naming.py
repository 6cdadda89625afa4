"""Plans which output each input file gets, before any file is read."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from maxim_deploy.errors import ImageError, UsageError, quoted
from maxim_deploy.imaging.files import INPUT_SUFFIXES, check_input_file, check_output_suffix
from maxim_deploy.imaging.kinds import skipped_picture
from maxim_deploy.imaging.video.names import (
    check_video_output,
    has_video_suffix,
    is_video,
)
from maxim_deploy.jobs.carrying import Carrier
from maxim_deploy.jobs.job import FileResult
from maxim_deploy.jobs.record import EarlierResults
from maxim_deploy.jobs.result_names import is_beside, result_name, why_too_long, written
from maxim_deploy.jobs.shards import Shard

logger = logging.getLogger(__name__)


@dataclass
class FilePlan:
    """The output of each input.

    Attributes:
        output: the file or folder to write; None for a plan that only lists its inputs.
        compare: whether each file also gets a before/after beside its result.
        targets: the output of each input; without an `output`, the true path of each input.
        failures: inputs that cannot be restored, with the reason.
        skipped: number of files with other suffixes in folders and patterns.
        into_folder: whether `output` is a folder.
        earlier: number of results of an earlier run in the same folder, which are not inputs.
        skipped_pictures: the skipped files that look like pictures, with their kind.
        strict: whether `skipped_pictures` are failures.
        shard: the shard that `targets` and `failures` belong to; None for all files.
        of_all: number of files in all shards together, failures included.
        carrier: copies the temporary files of a plan with URLs; None for a plan without URLs.
    """

    output: str | None = None
    compare: bool = False
    targets: dict[Path, Path] = field(default_factory=dict)
    failures: list[FileResult] = field(default_factory=list)
    skipped: int = 0
    into_folder: bool = False
    earlier: int = 0
    skipped_pictures: dict[Path, str] = field(default_factory=dict)
    strict: bool = False
    shard: Shard | None = None
    of_all: int = 0
    carrier: Carrier | None = None

    def refuse(self, source: object, why: Exception) -> None:
        """Add a failure: `source` will not be restored."""
        self.failures.append(FileResult.failure(source, why))

    def assign(self, wishes: dict[Path, Path]) -> None:
        """Give each source its target, and refuse a target that is invalid.

        A target is invalid if another source has the same one, if it is an input, or if its name is
        too long.
        """
        originals = {os.path.realpath(source) for source in wishes}
        originals.update(os.path.realpath(failure.input) for failure in self.failures)
        # Compared by true paths: one output may be a link to another.
        claims: dict[str, list[Path]] = {}
        for source, target in wishes.items():
            for path in written(target, self.compare):
                claims.setdefault(os.path.realpath(path), []).append(source)
        for source, target in wishes.items():
            for path in written(target, self.compare):
                true_path, why = os.path.realpath(path), why_too_long(path)
                others = [quoted(rival) for rival in claims[true_path] if rival != source]
                if others:
                    advice = "restore them into separate folders"
                    why = f"is claimed by {', '.join(others)} too | {advice}"
                elif true_path in originals:
                    why = "would overwrite an input | give another OUT"
                if why:
                    self.refuse(source, UsageError(f"output {quoted(path)} {why}"))
                    break
            else:
                self.targets[source] = target

    def keep(self, shard: Shard | None, inside: dict[Path, Path]) -> None:
        """Remove the files of other shards.

        Args:
            shard: the shard to keep; None for all files.
            inside: the path of each file below the folder that was named as input.
        """
        self.shard, self.of_all = shard, len(self.targets) + len(self.failures)
        if shard is None:
            return

        def is_ours(source: Path) -> bool:
            # An input that no folder lists, such as a missing file, is reported by every shard.
            return source not in inside or shard.takes(inside[source])

        self.targets = {one: target for one, target in self.targets.items() if is_ours(one)}
        self.failures = [one for one in self.failures if is_ours(Path(one.input))]


def plan_files(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path | None,
    *,
    recursive: bool = False,
    compare: bool = False,
    strict: bool = False,
    shard: Shard | None = None,
) -> FilePlan:
    """Give each input its target; refuse targets that would overwrite each other or an input.

    If there is one input file and `output` has a suffix, `output` is the file to write. Otherwise
    `output` is a folder. An image becomes STEM.png in it. A video keeps its container, or becomes
    .mkv if its container cannot be written. Results of an earlier run into the same folder are not
    inputs if its record names them and they have not changed. This function writes nothing.

    Args:
        inputs: files, folders (their images and videos), and patterns such as "photos/**/*.jpg".
        output: a file or a folder; None if nothing will be written.
        recursive: take the files in sub-folders too. `output` gets the same sub-folders.
        compare: each file also gets a before/after, STEM.before-after, beside its target.
        strict: pictures in folders and patterns whose format is not read, such as HEIC, are
            failures. Otherwise the log names them.
        shard: plan one shard only. Its names are checked against the names of all shards.

    Returns:
        The targets, and the inputs that cannot be restored with the reason.

    Raises:
        UsageError: no shard has any file, `output` is a file of an unknown suffix, or a shard of a
            folder would be restored into the folder itself.

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
    plan = FilePlan(None if output is None else os.fspath(output), compare, strict=strict)
    plan.into_folder = plan.output is not None and not _means_file(sources, plan.output)
    wishes: dict[tuple[Path, str], Path] = {}
    named: set[Path] = set()
    earlier, inside = EarlierResults(), dict[Path, Path]()
    for given in dict.fromkeys(sources):
        for source, folder in sources_of(given, plan, recursive):
            if source in named:
                continue
            target = _target(source, folder, plan)
            inside[source] = folder / source.name
            if shard and plan.into_folder and is_beside(target, source):
                # The results have no record yet, so the other runs would take them for inputs.
                raise UsageError(
                    f"output {quoted(target.parent)} | contains the inputs | shards need a "
                    "separate folder for results | name another folder with -o"
                )
            if plan.into_folder and is_beside(target, source) and source in earlier:
                plan.earlier += 1
                continue
            # Keyed by the true path: an input that is listed twice is restored once.
            named.add(wishes.setdefault((target, os.path.realpath(source)), source))
    targets = {source: target for (target, _), source in wishes.items()}
    if plan.output is None:
        plan.targets = targets
    else:
        plan.assign(targets)
    if not plan.targets and not plan.failures:
        listed = ", ".join(map(quoted, sources))
        raise UsageError(f"inputs {listed} | no image or video files in there{and_skipped(plan)}")
    plan.keep(shard, inside)
    return plan


def and_skipped(plan: FilePlan) -> str:
    """The end of a sentence, with the numbers of skipped files."""
    words = ""
    if plan.skipped:
        words += f"; skipped {plan.skipped} of other suffixes"
    if plan.earlier:
        results = "result" if plan.earlier == 1 else "results"
        words += f"; skipped {plan.earlier} {results} of an earlier run"
    return words


def _target(source: Path, folder: Path, plan: FilePlan) -> Path:
    """The output of a source; it lies in `folder` below the output folder."""
    if plan.output is None:
        return source.resolve()
    return (
        Path(plan.output) / folder / result_name(source) if plan.into_folder else Path(plan.output)
    )


def _means_file(inputs: list[Path], output: str) -> bool:
    one_file = len({os.path.realpath(given) for given in inputs}) == 1 and os.path.isfile(inputs[0])  # noqa: PTH113  # no error for a name too long
    ends_as_folder = output.endswith(("/", os.sep)) or os.path.isdir(output)  # noqa: PTH112
    if not one_file or ends_as_folder or not Path(output).suffix:
        return False
    check = check_video_output if is_video(inputs[0]) else check_output_suffix
    check(Path(output))
    return True


def sources_of(given: Path, plan: FilePlan, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """The files that an input stands for, each with its folder below the output.

    Files that cannot be read are added to `plan.failures`. Files of other suffixes are counted in
    `plan.skipped`.
    """
    if os.path.isdir(given):  # noqa: PTH112  # `Path.is_dir` raises for a name too long
        # The output folder may lie in an input folder. Its earlier results are not inputs.
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
    """The images and videos that a pattern matches."""
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
        return
    plan.skipped += 1
    if kind := skipped_picture(path):
        plan.skipped_pictures[path] = kind
        if plan.strict:
            plan.refuse(path, ImageError(kind))
        else:
            logger.warning("skipped '%s': %s", path, kind)
