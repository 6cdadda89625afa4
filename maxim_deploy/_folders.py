"""Folders that are replaced in one step, and read whole even while they are replaced.

Where the system cannot exchange two names, a replacement takes two renames. If the process dies
between them, the previous folder is left as `.NAME.previous`, and `settled` restores its name.

A writer locks the parent folder during the renames. A reader that notices a replacement takes a
shared lock on the parent and reads again.
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
    """A new directory, filled in the block, that replaces `path` if the block succeeds.

    Its content reaches the disk before its name does. If `path` is a symbolic link, the folder that
    it points at is replaced.

    Args:
        path: where it appears. An empty directory there is always replaced.
        replace: whether to replace a directory that has content.
        beside: a file or folder next to which the new directory is filled under a hidden name;
            None for `path`. It must be on the same file system.

    Raises:
        FileExistsError: `path` exists by the end of the block, and `replace` is false.
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
        # By now this name belongs to the previous directory, to nothing, or to a failed attempt.
        partial.discard()


def settled(path: Path) -> Path:
    """`path`, after restoring the name of a directory that a killed process has put aside."""
    if path.exists():
        return path
    real = real_path(path)
    aside = _aside(real)
    if not aside.exists():
        return path
    # Without waiting: the caller may hold the lock of the parent folder.
    lock = Lock(real.parent)
    if lock.state == "ours":
        with suppress(OSError):  # a reader may not be allowed to write here
            _put_back(real)
    lock.release()
    return aside if aside.exists() and not path.exists() else path


def tidy(path: Path) -> None:
    """Remove what dead processes left beside a directory and in it."""
    real = real_path(path)
    for folder in (real.parent, real):
        remove_abandoned(folder)
    if _aside(real).exists():
        with locked(real.parent):
            _put_back(real)


def read_whole(
    folder: Path, read: Callable[[], T], undo: Callable[[T], object] = lambda _: None
) -> T:
    """The result of `read` on one version of a folder.

    If the folder is replaced meanwhile, `read` runs once more under a lock that prevents
    replacement.

    Args:
        folder: the folder, or a link to it.
        read: opens the files by their names. It may fail on a mixture of two versions.
        undo: closes a result that `read` made from a mixture.
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
    """Prevent replacement of the folder during the block. Several readers may do so at once."""
    with locked(real_path(folder).parent, shared=True):
        yield


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """A value that differs between two directories that had the same name."""
    try:
        found = folder.stat()
    except OSError:
        return None
    # A file system reuses the inode number of a removed directory.
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _swap(new: Path, path: Path) -> None:
    """Exchange `new` and `path`, under the lock."""
    try:
        exchange(new, path)
    except OSError:  # not supported here: a reader without the lock may miss `path`
        aside = _aside(path)
        path.rename(aside)
        try:
            new.rename(path)
        except BaseException:
            aside.rename(path)
            raise
        # Also under the lock: the name must be free for the next replacement.
        aside.rename(new)


def _rename_new(new: Path, path: Path) -> None:
    """Rename to a name that is free or belongs to an empty directory."""
    try:
        if os.name == "nt" and path.is_dir():
            path.rmdir()
        new.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise


def _put_back(path: Path) -> None:
    """Complete a replacement whose process died between two renames, under the lock."""
    aside = _aside(path)
    if path.exists():
        remove(aside)
    elif aside.exists():
        aside.rename(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _sync_tree(folder: Path) -> None:
    """Wait until all files and folders are on the disk, including those that other code wrote."""
    for place, _, names in os.walk(folder, topdown=False):
        for path in (Path(place, name) for name in names):
            if path.is_file() and not path.is_symlink():
                sync(path)
        sync_folder(Path(place))
