"""Plans the output of each input if the inputs or the output include URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from maxim_deploy.errors import UsageError, quoted
from maxim_deploy.imaging.files import check_output_suffix
from maxim_deploy.imaging.video.names import check_video_output, has_video_suffix
from maxim_deploy.jobs.naming import FilePlan, and_skipped, sources_of
from maxim_deploy.jobs.object_carrier import ObjectCarrier
from maxim_deploy.jobs.object_listing import listings_of
from maxim_deploy.jobs.result_names import result_name, why_too_long, written
from maxim_deploy.jobs.shards import Shard
from maxim_deploy.jobs.stage import Place
from maxim_deploy.jobs.store_opening import stored_object
from maxim_deploy.jobs.stores import StoredObject
from maxim_deploy.jobs.urls import is_url


class _Source(NamedTuple):
    """An input, and the folder of its result below the output, such as "a/b"."""

    place: Place
    folder: str


def plan_places(
    inputs: Iterable[str | Path],
    output: str | Path | None,
    *,
    recursive: bool = False,
    compare: bool = False,
    strict: bool = False,
    shard: Shard | None = None,
) -> FilePlan:
    """Plan files as `plan_files` does, with URLs among the inputs or as output.

    A prefix of a store counts as a folder, and results are named by the same rules. Results never
    lie beside their inputs.

    Args:
        inputs: paths as in `plan_files`; URLs of objects and of prefixes, and patterns.
        output: a path, or the URL of an object or a prefix.
        recursive: as in `plan_files`.
        compare: as in `plan_files`.
        strict: as in `plan_files`.
        shard: as in `plan_files`.

    Returns:
        A plan of temporary files, for one run; its carrier maps them to their objects.

    Raises:
        UsageError: as in `plan_files`; or a URL is of a kind that cannot be read, or not written.
        MissingDependencyError: the package of a protocol is not installed.
    """
    if output is None:
        raise UsageError("name the file, folder or URL to write as output")
    root, listed = _place(output), [*dict.fromkeys(map(_place, inputs))]
    if isinstance(root, StoredObject) and root.store.is_web:
        raise UsageError(
            f"output '{root}' | web servers are read-only | name an s3:// URL or a folder"
        )
    plan = FilePlan(str(root), compare, strict=strict)
    sources = list(_sources(listed, root, plan, recursive))
    plan.into_folder = not _means_one(listed, sources, root, str(output))
    targets = {source: _target(source, root, plan) for source in sources}
    granted = {source: targets[source] for source in _granted(targets, plan, shard)}
    if not granted and not plan.failures:
        named = ", ".join(map(quoted, listed))
        raise UsageError(f"inputs {named} | no image or video files in there{and_skipped(plan)}")
    plan.shard, plan.of_all = shard, len(granted) + len(plan.failures)
    carrier = ObjectCarrier(_records_below(root, plan), shard)
    for source, target in granted.items():
        if _is_ours(source, shard):
            staged, result = carrier.stage(source.place, target)
            plan.targets[staged] = result
    plan.carrier = carrier
    return plan


def _place(given: str | Path) -> Place:
    return stored_object(given) if isinstance(given, str) and is_url(given) else Path(given)


def _sources(
    listed: list[Place], root: Place, plan: FilePlan, recursive: bool
) -> Iterator[_Source]:
    """The files and objects of the inputs, each once, in the order of the inputs."""
    objects = [one for one in listed if isinstance(one, StoredObject)]
    output = root.key.rstrip("/") if isinstance(root, StoredObject) else None
    listings = dict(listings_of(objects, plan, output, recursive=recursive))
    named: set[object] = set()
    for given in listed:
        if isinstance(given, Path):
            below = [_Source(x, _text(folder)) for x, folder in sources_of(given, plan, recursive)]
        else:
            below = [_Source(one, folder) for one, folder in listings[given]]
        for source in below:
            place = source.place
            # An object is not compared by its text: two URLs may differ in a query that is hidden.
            key = os.path.realpath(place) if isinstance(place, Path) else place
            if key not in named:
                named.add(key)
                yield source


def _text(folder: Path) -> str:
    return "" if folder == Path() else folder.as_posix()


def _means_one(listed: list[Place], sources: list[_Source], root: Place, output: str) -> bool:
    """Whether the output is the file or object to write, by the rule of `plan_files`."""
    is_one = len(listed) == 1 and [source.place for source in sources] == listed
    if not is_one or output.endswith("/") or not Path(root.name).suffix or _is_folder(root):
        return False
    is_of_video = has_video_suffix(Path(sources[0].place.name))
    (check_video_output if is_of_video else check_output_suffix)(Path(root.name))
    return True


def _is_folder(root: Place) -> bool:
    return root.is_dir() if isinstance(root, Path) else root.store.is_prefix(root)


def _target(source: _Source, root: Place, plan: FilePlan) -> Place:
    if not plan.into_folder:
        return root
    name = source.place.name
    known = source.place if isinstance(source.place, Path) else Path(os.devnull, name)
    path = f"{source.folder}/{result_name(known)}".lstrip("/")
    target = root / path if isinstance(root, Path) else root.below(path)
    if _folder_of(target) == _folder_of(source.place):
        raise UsageError(
            f"output '{_folder_of(target)}' | contains the inputs | name another folder or prefix "
            "with -o"
        )
    return target


def _folder_of(place: Place) -> str:
    return str(place.resolve().parent) if isinstance(place, Path) else str(place).rpartition("/")[0]


def _is_ours(source: _Source, shard: Shard | None) -> bool:
    return shard is None or shard.takes(f"{source.folder}/{source.place.name}".lstrip("/"))


def _granted(
    targets: dict[_Source, Place], plan: FilePlan, shard: Shard | None
) -> Iterator[_Source]:
    """The sources whose targets are valid names that no other source claims."""
    originals = {str(source.place) for source in targets}
    claims: dict[str, list[_Source]] = {}
    for source, target in targets.items():
        for place in _written(target, plan.compare):
            claims.setdefault(str(place), []).append(source)
    for source, target in targets.items():
        for place in _written(target, plan.compare):
            rivals = [quoted(one.place) for one in claims[str(place)] if one != source]
            why = why_too_long(Path(place.name))
            if rivals:
                why = f"is claimed by {', '.join(rivals)} too | restore them into separate folders"
            elif str(place) in originals:
                why = "would overwrite an input | give another OUT"
            if why:
                if _is_ours(source, shard):
                    plan.refuse(source.place, UsageError(f"output {quoted(place)} {why}"))
                break
        else:
            yield source


def _written(target: Place, compare: bool) -> list[Place]:
    """All files or objects that a run may write for a result."""
    if isinstance(target, Path):
        return [*written(target, compare)]
    return [target.beside(path.name) for path in written(Path(target.name), compare)]


def _records_below(root: Place, plan: FilePlan) -> StoredObject | None:
    """The prefix above the records; None if they are files beside the results."""
    if isinstance(root, Path):
        return None
    return root if plan.into_folder else root.beside("")
