"""Files that are either whole or absent: hashing, atomic writes, atomic directories.

A temporary lives beside its target, so that the final rename never crosses file systems. Its name
starts with a dot and ends in `.partial`: what a killed process leaves behind is never mistaken for
a result.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

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


def partial_sibling(path: Path) -> Path:
    """A new hidden name beside `path` for something that is not finished."""
    # A name may be as long as the file system allows, and this one must not be longer.
    start = path.name[:40]
    return path.with_name(f".{start}.{uuid.uuid4().hex[:12]}.partial")


def publish(partial: Path, path: Path) -> None:
    """Give a file that is finished its name, in one step, once its content is on the disk."""
    # A rename may reach the disk before the content: after a power cut the name would stand for an
    # empty file. Windows flushes only what is open for writing.
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    take_mode_and_owner(partial, path)
    partial.replace(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block ends well, and not at all otherwise.

    An existing `path` stays as it is until it is replaced in one step. The content reaches the
    disk before the name does.
    """
    partial = partial_sibling(path)
    try:
        with partial.open("xb") as file:
            yield file
        publish(partial, path)
    # Ctrl-C, and a generator that is closed, are no `Exception`.
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def take_mode_and_owner(partial: Path, path: Path) -> None:
    """Give a new file the permissions, owner and group of the file that it will replace, if any.

    A warning says if the owner or group cannot be kept.
    """
    try:
        old, new = path.stat(), partial.stat()
    except OSError:  # nothing is replaced
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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as file:
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
    partial = partial_sibling(path)
    partial.mkdir()
    try:
        yield partial
        aside = _aside(path)
        # No rename replaces a directory that is not empty: it takes two, and a reader in between
        # finds the old one aside. `path` exists, so an earlier swap's leftover is not needed.
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        partial.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
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
