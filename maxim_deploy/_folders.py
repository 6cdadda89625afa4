"""Folders that are whole: replaced in one step, and read as one although they are replaced.

Where the system cannot exchange two names, a replacement takes two renames, and a process may die
in between. The previous folder is then put aside as `.NAME.previous`, and `settled` puts it back.

Whoever replaces a folder locks the one above it for the moment of the renames. A reader that has
met a replacement locks it, shared, while it reads again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from maxim_deploy._exchange import exchange
from maxim_deploy._files import (
    Partial,
    make_folder,
    real_path,
    remove,
    remove_abandoned,
    sync,
    sync_folder,
)
from maxim_deploy._locks import Lock, locked

T = TypeVar("T")


@contextmanager
def atomic_directory(
    path: Path, *, replace: bool = True, beside: Path | None = None
) -> Iterator[Path]:
    """A new directory, filled in the block, that takes the place of `path` if the block ends well.

    Everything in it reaches the disk before its name does. Of a symbolic link, what it points at is
    replaced.

    Args:
        path: an empty directory there is replaced in any case.
        replace: whether to replace another one.
        beside: a file or folder that the new directory is beside, hidden, until it is whole; None
            for `path`. It must be on the same file system.

    Raises:
        FileExistsError: something is there by now and `replace` is false.
    """
    path = real_path(path)
    make_folder(path.parent)
    partial = Partial(beside or path, is_directory=True)
    try:
        yield partial.path
        _sync_tree(partial.path)
        with locked(path.parent):
            _put_back(path)
            if replace and path.exists():
                _swap(partial.path, path)
            else:
                _rename_new(partial.path, path)
        sync_folder(path.parent)
    finally:
        # By now this is the name of the previous directory, of nothing, or of what has failed.
        partial.discard()


def settled(path: Path) -> Path:
    """Where a directory is: `path`, also after a kill has left only the one put aside."""
    if path.exists():
        return path
    real = real_path(path)
    aside = _aside(real)
    if not aside.exists():
        return path
    # Without waiting: a caller may have the folder above locked already.
    lock = Lock(real.parent)
    if lock.state == "ours":
        with suppress(OSError):  # a reader may not be allowed to write here
            _put_back(real)
    lock.release()
    return aside if aside.exists() and not path.exists() else path


def tidy(path: Path) -> None:
    """Remove what processes that have died left beside a directory and in it."""
    real = real_path(path)
    for folder in (real.parent, real):
        remove_abandoned(folder)
    if _aside(real).exists():
        with locked(real.parent):
            _put_back(real)


def read_whole(
    folder: Path, read: Callable[[], T], undo: Callable[[T], object] = lambda _: None
) -> T:
    """What `read` makes of a folder's files, which are all of the same one.

    If the folder is replaced meanwhile, it is read again, once: then nobody can replace it.

    Args:
        folder: the folder, or a link to it.
        read: opens the files by their names; it may fail on a mixture.
        undo: closes what `read` has made of a mixture.
    """
    before = _stamp(folder)
    try:
        made = read()
    except Exception:
        if _stamp(folder) == before:
            raise
    else:
        if _stamp(folder) == before:
            return made
        undo(made)
    with unreplaced(folder):
        return read()


@contextmanager
def unreplaced(folder: Path) -> Iterator[None]:
    """No process replaces the folder while the block lasts; several may be here at a time."""
    with locked(real_path(folder).parent, shared=True):
        yield


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """Differs between two directories that have had the same name."""
    try:
        found = folder.stat()
    except OSError:
        return None
    # A file system gives the number of a directory that was removed to the next one.
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _swap(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`, and `path` in the place of `new`, under the lock."""
    try:
        exchange(new, path)
    except OSError:  # not with this system or file system: without the lock `path` may be missed
        aside = _aside(path)
        path.rename(aside)
        try:
            new.rename(path)
        except BaseException:
            aside.rename(path)
            raise
        # Under the lock too: the name must be free for the next one that is put aside.
        aside.rename(new)


def _rename_new(new: Path, path: Path) -> None:
    """Rename to a name that nothing or an empty directory has."""
    try:
        if os.name == "nt" and path.is_dir():
            path.rmdir()
        new.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise


def _put_back(path: Path) -> None:
    """End what a process that died between two renames has begun, under the lock."""
    aside = _aside(path)
    if path.exists():
        remove(aside)
    elif aside.exists():
        aside.rename(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _sync_tree(folder: Path) -> None:
    """Wait until all files and folders are on the disk, whoever has written them."""
    for place, _, names in os.walk(folder, topdown=False):
        for path in (Path(place, name) for name in names):
            if path.is_file() and not path.is_symlink():
                sync(path)
        sync_folder(Path(place))
