"""Lists the objects of each URL: one object, all below a prefix, or the matches of a pattern.

The same files are left out as in folders: hidden names, other suffixes, empty files.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from maxim_deploy.errors import ImageError, StoreError
from maxim_deploy.imaging.files import INPUT_SUFFIXES
from maxim_deploy.imaging.kinds import other_picture
from maxim_deploy.imaging.video.names import has_video_suffix
from maxim_deploy.jobs.naming import FilePlan, logger
from maxim_deploy.jobs.stores import StoredObject

_AT_A_TIME = 16
"""Inputs that are looked up at a time. A store's latency limits more than its bandwidth."""

Listing = dict[StoredObject, str | None]
"""Objects, each with its folder below the output; None for an object that was named itself."""


def listings_of(
    inputs: Sequence[StoredObject], plan: FilePlan, output: str | None, *, recursive: bool
) -> Iterator[tuple[StoredObject, list[tuple[StoredObject, str]]]]:
    """Yield each input with its objects, and the folder of each object below the output.

    Args:
        inputs: objects, prefixes and patterns.
        plan: gets the failures, and the number of skipped files.
        output: the key of the prefix for results. An input below it is left out.
        recursive: whether to list the prefixes below a prefix too.
    """
    with ThreadPoolExecutor(_AT_A_TIME, "maxim-deploy-listing") as threads:
        listings = threads.map(partial(_listing_of, recursive=recursive), inputs)
        for given, listing in zip(inputs, listings, strict=True):
            if isinstance(listing, StoreError):
                plan.refuse(given, listing)
                yield given, []
            else:
                yield given, list(_taken(_without(output, given, listing), plan))


def _listing_of(given: StoredObject, *, recursive: bool) -> Listing | StoreError:
    store = given.store
    try:
        one, is_prefix = store.look_up(given)
        if not is_prefix:
            return {one: None}
    except StoreError as error:
        if store.is_web or not glob.has_magic(given.key):
            return error
        try:
            matches = store.matches(given)
        except StoreError as why:
            return why
        return dict.fromkeys(matches, "") or error
    try:
        below = store.objects_below(given, recursive=recursive)
    except StoreError as error:
        return error
    return {one: _folder_in(given, one) for one in below}


def _folder_in(prefix: StoredObject, one: StoredObject) -> str:
    """The folder of an object below a prefix; "/" where two slashes follow each other."""
    folder, slash, _ = one.key[len(prefix.key.rstrip("/")) + 1 :].rpartition("/")
    return folder or slash


def _without(output: str | None, given: StoredObject, listing: Listing) -> Listing:
    """A listing without earlier results, which may lie below an input."""
    below = f"{given.key.rstrip('/')}/"
    if output is None or not output.startswith(below):
        return listing
    return {one: x for one, x in listing.items() if not one.key.startswith(f"{output}/")}


def _taken(listing: Listing, plan: FilePlan) -> Iterator[tuple[StoredObject, str]]:
    """The objects of a listing that will be restored; the plan gets the others."""
    for one, folder in listing.items():
        if folder is not None and (_is_hidden(one, folder) or _is_skipped(one, plan)):
            continue
        if why := _why_not(one, folder or ""):
            plan.refuse(one, ImageError(f"image '{one}' | {why}"))
        else:
            yield one, folder or ""


def _is_hidden(one: StoredObject, folder: str) -> bool:
    """Whether a part of the name below the prefix begins with a dot; "." and ".." do not count."""
    parts = [*folder.split("/"), one.name]
    return any(part.startswith(".") and part not in (".", "..") for part in parts)


def _is_skipped(one: StoredObject, plan: FilePlan) -> bool:
    name = Path(one.name)
    if name.suffix.lower() in INPUT_SUFFIXES or has_video_suffix(name):
        return False
    plan.skipped += 1
    if kind := other_picture(name.suffix):
        plan.skipped_pictures[Path(one.key)] = kind
        if plan.strict:
            plan.refuse(one, ImageError(kind))
        else:
            logger.warning("skipped '%s': %s", one, kind)
    return True


def _why_not(one: StoredObject, folder: str) -> str | None:
    """Why an object cannot be restored, or None."""
    if not one.name:
        return "names no file | name one object"
    parts = [*folder.split("/")] if folder else []
    # A key may be any text. As a path it could lead out of the output folder.
    if any(part in ("", ".", "..") for part in (*parts, one.name)) or "\0" in one.key:
        return "the name has '.', '..' or nothing between two slashes | rename the object"
    if one.size == 0:
        return "the object is empty"
    return None
