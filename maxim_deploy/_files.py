"""Files that are either whole or absent: hashing, atomic writes, atomic directories.

A temporary lives beside its target, so that the final rename never crosses file systems. Its name
starts with a dot and ends in `.partial`: what a killed process leaves behind is never mistaken for
a result. Its process holds a lock on it, which the system releases when the process dies: whoever
gets the lock knows that the file is abandoned, and `remove_abandoned` removes it.

What is written to a symbolic link goes where the link points, and the link stays: a user may keep
results elsewhere. With `follow=False`, for files that no user names, the link itself is replaced.
"""

from __future__ import annotations

import errno
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

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""Of `os.open`: refuse a symbolic link. Windows has none that others could put here."""


def opens_no_link(path: str, flags: int) -> int:
    """An `opener` of `open` for files that no user names: a symbolic link there is an OSError."""
    try:
        return os.open(path, flags | NO_FOLLOW, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK):
            raise
        raise OSError(error.errno, "is a symbolic link, remove it", path) from error


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
        self.target = _real(target) if follow else _real(target.parent) / target.name
        _remove_abandoned_once(self.target.parent)
        # A name may be as long as the file system allows, and this one must not be longer.
        start = self.target.name[:40]
        while True:
            self.path = self.target.with_name(f".{start}.{uuid.uuid4().hex[:12]}.partial")
            self.path.mkdir() if is_directory else self.path.touch(exist_ok=False)
            self._lock = _Lock(self.path)
            # Between the two lines another process may have taken it for abandoned.
            if self._lock.state != "taken" and self.path.exists():
                return
            self._lock.release()

    def publish(self, path: Path | None = None) -> None:
        """Give a file that is finished its name, in one step, once its content is on the disk.

        Args:
            path: another name than `target`, in the same folder.
        """
        # A rename may reach the disk before the content: after a power cut the name would stand for
        # an empty file. Windows flushes only what is open for writing.
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        target = self.target if path is None else _real(path)
        take_mode_and_owner(self.path, target)
        self.path.replace(target)
        self._lock.release()

    def rename(self) -> None:
        """Give a directory that is finished its name, which nothing has."""
        self.path.rename(self.target)
        self._lock.release()

    def discard(self) -> None:
        """Remove it, unless it has been published."""
        _remove(self.path)
        self._lock.release()


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that have died left unfinished in a folder; what lives stays."""
    with suppress(OSError):  # there is no such folder, or it cannot be listed
        for path in [entry for entry in folder.iterdir() if _PARTIAL.fullmatch(entry.name)]:
            lock = _Lock(path)
            if lock.state == "ours":
                _remove(path)
            lock.release()


_remove_abandoned_once = functools.cache(remove_abandoned)
"""A run of many files looks through a folder once, and not before each of them."""

_PARTIAL = re.compile(r"\..{0,40}\.[0-9a-f]{12}\.partial", re.DOTALL)


class _Lock:
    """An attempt to lock a file or directory for this process, as long as it lives.

    Attributes:
        state: "ours"; "taken" by another process, or the file is gone; or "unknown" where nothing
            can be locked, as on Windows and some network file systems.
    """

    def __init__(self, path: Path) -> None:
        self.state, self._number = "unknown", -1
        if fcntl is None:
            return
        try:
            self._number = os.open(path, os.O_RDONLY | NO_FOLLOW)
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.state = "ours"
        except (BlockingIOError, FileNotFoundError):
            self.state = "taken"
        except OSError:
            pass

    def release(self) -> None:
        """Let others have it; also twice."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


def _remove(path: Path) -> None:
    """Remove a file or directory as far as it goes: this runs while errors are on their way."""
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


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


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A new directory, filled in the block, that takes the place of `path` if the block ends well.

    The previous directory is moved aside, the new one renamed in, the old one removed. Whoever
    looks between the two renames, or after a kill there, finds the old one with `settled`. Of a
    symbolic link, what it points at is replaced.
    """
    path = _real(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Partial(path, is_directory=True)
    try:
        yield partial.path
        aside = _aside(path)
        # No rename replaces a directory that is not empty: it takes two, and a reader in between
        # finds the old one aside. `path` exists, so an earlier swap's leftover is not needed.
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        partial.rename()
        shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        partial.discard()
        raise


def settled(path: Path) -> Path:
    """`path`, or its predecessor that a swap cut short has left: where the whole directory is."""
    if path.exists():
        return path
    aside = _aside(_real(path))
    return aside if aside.exists() else path


def _real(path: Path) -> Path:
    """The directory itself: `.` has no name to put another beside, and a link another folder."""
    # Not `resolve`, which raises on a link to itself.
    return Path(os.path.realpath(path))


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")
