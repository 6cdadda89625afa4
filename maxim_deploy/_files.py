"""Files that are either whole or absent: hashing, atomic writes, flushing to the disk.

A temporary lives beside its target, so that the final rename never crosses file systems. Its name
starts with a dot and ends in `.partial`: what a killed process leaves behind is never mistaken for
a result. Its process holds a lock on it, and the system releases the lock when the process dies.
`remove_abandoned` removes every temporary whose lock is free.

A write to a symbolic link goes to the file that the link points at, and the link stays: a user may
keep results elsewhere. With `follow=False` the link itself is replaced. This is for files that
users do not name.
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
    """SHA-256 of all Python files in folders: a cache key that changes with the code."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


class Partial:
    """A new hidden file or directory beside `target` for unfinished work.

    It exists, empty and locked, when this returns. Call `publish` or `discard` afterwards.

    Attributes:
        path: where to write.
        target: its final place. A link that is followed is resolved.
    """

    def __init__(self, target: Path, *, is_directory: bool = False, follow: bool = True) -> None:
        self.target = real_path(target) if follow else real_path(target.parent) / target.name
        _remove_abandoned_once(self.target.parent)
        # The hidden name must not exceed the longest name that the file system allows.
        start = self.target.name[:40]
        while True:
            self.path = self.target.with_name(f".{start}.{uuid.uuid4().hex[:12]}.partial")
            self.path.mkdir() if is_directory else self.path.touch(exist_ok=False)
            self._lock = Lock(self.path)
            # Between the two lines another process may have removed it as abandoned.
            if self._lock.state != "taken" and self.path.exists():
                return
            self._lock.release()

    def publish(self, path: Path | None = None) -> None:
        """Flush a finished file to the disk, then give it its name in one step.

        Args:
            path: another name than `target`, in the same folder.
        """
        target = self.target if path is None else real_path(path)
        take_mode_and_owner(self.path, target)
        replace_durably(self.path, target)
        self._lock.release()

    def discard(self) -> None:
        """Remove the hidden file. After `publish` there is none."""
        remove(self.path)
        self._lock.release()


def remove_abandoned(folder: Path) -> None:
    """Remove unfinished files of dead processes from a folder. Files of running processes stay."""
    with suppress(OSError):  # there is no such folder, or it cannot be listed
        for path in [entry for entry in folder.iterdir() if _PARTIAL.fullmatch(entry.name)]:
            lock = Lock(path)
            if lock.state == "ours":
                remove(path)
            lock.release()


_remove_abandoned_once = functools.cache(remove_abandoned)
"""Search a folder once per run, not once per file."""

_PARTIAL = re.compile(r"\..{0,40}\.[0-9a-f]{12}\.partial", re.DOTALL)


def remove(path: Path) -> None:
    """Remove a file or directory as far as possible.

    No error is raised: another one may be pending.
    """
    with suppress(OSError):
        # Another process may be removing the same folder and its files.
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def replace_durably(partial: Path, path: Path) -> None:
    """Give a finished file the name `path` in one step, and flush both to the disk."""
    # A rename may reach the disk before the content. After a power cut the file would be empty.
    sync(partial)
    partial.replace(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they exist, and flush their names to the disk.

    Raises:
        OSError: a file has that name, or permission is missing.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(new):
        sync_folder(folder.parent)


def sync(path: Path) -> None:
    """Wait until the content of a file is on the disk. Raises OSError if that fails."""
    # Windows flushes only files open for writing. On other systems the file may be write-protected.
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system supports it."""
    with suppress(OSError):  # Windows cannot open folders, and some file systems cannot flush them
        sync(path)


@contextmanager
def atomic_file(path: Path, *, follow: bool = True) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block ends well, and not at all otherwise.

    An existing `path` stays until it is replaced in one step. The content reaches the disk before
    the name does.

    Args:
        path: the file.
        follow: whether to replace the file that a symbolic link points at rather than the link.
    """
    partial = Partial(path, follow=follow)
    try:
        with partial.path.open("wb") as file:
            yield file
        partial.publish()
    # Ctrl-C and the closing of a generator do not derive from `Exception`.
    except BaseException:
        partial.discard()
        raise


def take_mode_and_owner(partial: Path, path: Path) -> None:
    """Copy permissions, owner and group from the file that will be replaced, if there is one.

    A warning says if the owner or group cannot be kept.
    """
    try:
        old, new = path.lstat(), partial.stat()
    except OSError:  # nothing is replaced
        return
    if stat.S_ISLNK(
        old.st_mode
    ):  # a link's own permissions do not apply to the file that replaces it
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
    """Write UTF-8 text atomically. `follow` is that of `atomic_file`."""
    with atomic_file(path, follow=follow) as file:
        file.write(text.encode())


def real_path(path: Path) -> Path:
    """The directory itself, so that siblings can be made.

    `.` has no name, and a link lies elsewhere.
    """
    # Not `resolve`, which raises on a link to itself.
    return Path(os.path.realpath(path))
