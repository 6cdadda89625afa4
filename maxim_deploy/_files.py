"""Files that are either whole or absent: hashing, atomic writes, what must be on the disk.

A temporary lives beside its target, so that the final rename never crosses file systems. Its name
starts with a dot and ends in `.partial`: what a killed process leaves behind is never mistaken for
a result. Its process holds a lock on it, which the system releases when the process dies: whoever
gets the lock knows that the file is abandoned, and `remove_abandoned` removes it.

What is written to a symbolic link goes where the link points, and the link stays: a user may keep
results elsewhere. With `follow=False`, for files that no user names, the link itself is replaced.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from maxim_deploy._locks import Lock

logger = logging.getLogger(__name__)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_sources(*folders: Path) -> str:
    """SHA-256 of all Python files in folders, for what is kept only as long as code is the same."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


class Partial:
    """A new hidden file or directory beside `target` for something that is not finished.

    It is there, empty and locked, when this returns. Publish it or discard it.

    Attributes:
        path: where to write.
        target: where it will be; what a symbolic link points at, if it is followed.
    """

    def __init__(self, target: Path, *, is_directory: bool = False, follow: bool = True) -> None:
        self.target = real_path(target) if follow else real_path(target.parent) / target.name
        _remove_abandoned_once(self.target.parent)
        # A name may be as long as the file system allows, and this one must not be longer.
        start = self.target.name[:40]
        while True:
            self.path = self.target.with_name(f".{start}.{uuid.uuid4().hex[:12]}.partial")
            self.path.mkdir() if is_directory else self.path.touch(exist_ok=False)
            self._lock = Lock(self.path)
            # Between the two lines another process may have taken it for abandoned.
            if self._lock.state != "taken" and self.path.exists():
                return
            self._lock.release()

    def publish(self, path: Path | None = None) -> None:
        """Give a file that is finished its name, in one step, once its content is on the disk.

        Args:
            path: another name than `target`, in the same folder.
        """
        target = self.target if path is None else real_path(path)
        take_mode_and_owner(self.path, target)
        replace_durably(self.path, target)
        self._lock.release()

    def discard(self) -> None:
        """Remove what has the hidden name, which is nothing if it was published."""
        remove(self.path)
        self._lock.release()


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that have died left unfinished in a folder; what lives stays."""
    with suppress(OSError):  # there is no such folder, or it cannot be listed
        for path in [entry for entry in folder.iterdir() if _PARTIAL.fullmatch(entry.name)]:
            lock = Lock(path)
            if lock.state == "ours":
                remove(path)
            lock.release()


_remove_abandoned_once = functools.cache(remove_abandoned)
"""A run of many files looks through a folder once, and not before each of them."""

_PARTIAL = re.compile(r"\..{0,40}\.[0-9a-f]{12}\.partial", re.DOTALL)


def remove(path: Path) -> None:
    """Remove a file or directory as far as it goes: this runs while errors are on their way."""
    with suppress(OSError):
        # Another process may be removing the same folder, and be faster with some of its files.
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def replace_durably(partial: Path, path: Path) -> None:
    """Give a finished file the name `path`, in one step; afterwards both are on the disk."""
    # A rename may reach the disk before the content: after a power cut the name would stand for
    # an empty file.
    sync(partial)
    partial.replace(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder that may be there, and those above it; afterwards their names are on the disk.

    Raises:
        OSError: a file is in the way, or it may not be made.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(new):
        sync_folder(folder.parent)


def sync(path: Path) -> None:
    """Wait until the content of a file is on the disk; raises OSError if it is not."""
    # Windows flushes only what is open for writing; elsewhere it may be write-protected.
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can tell."""
    with suppress(OSError):  # Windows opens no folders, and some file systems flush none
        sync(path)


@contextmanager
def atomic_file(path: Path, *, follow: bool = True) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block ends well, and not at all otherwise.

    An existing `path` stays as it is until it is replaced in one step. The content reaches the
    disk before the name does.

    Args:
        path: the file.
        follow: whether a symbolic link stays, and the file that it points at is replaced.
    """
    partial = Partial(path, follow=follow)
    try:
        with partial.path.open("wb") as file:
            yield file
        partial.publish()
    # Ctrl-C, and a generator that is closed, are no `Exception`.
    except BaseException:
        partial.discard()
        raise


def take_mode_and_owner(partial: Path, path: Path) -> None:
    """Give a new file the permissions, owner and group of the file that it will replace, if any.

    A warning says if the owner or group cannot be kept.
    """
    try:
        old, new = path.lstat(), partial.stat()
    except OSError:  # nothing is replaced
        return
    if stat.S_ISLNK(old.st_mode):  # a link says nothing about the file in its place
        return
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid) and hasattr(os, "chown"):
        try:
            os.chown(partial, old.st_uid, old.st_gid)
        except OSError as error:
            logger.warning(
                "output '%s': its owner and group are not kept: %s", path, error.strerror
            )
    with suppress(OSError):  # some file systems have no permissions
        partial.chmod(stat.S_IMODE(old.st_mode))


def write_text(path: Path, text: str, *, follow: bool = True) -> None:
    """Write UTF-8 text atomically; `follow` as of `atomic_file`."""
    with atomic_file(path, follow=follow) as file:
        file.write(text.encode())


def real_path(path: Path) -> Path:
    """The directory itself: `.` has no name to put another beside, and a link another folder."""
    # Not `resolve`, which raises on a link to itself.
    return Path(os.path.realpath(path))
