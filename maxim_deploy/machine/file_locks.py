"""Locks between processes by lock files, which are removed.

Unlike `_locks`, they work on Windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from maxim_deploy._optional import require


@contextmanager
def file_lock(
    path: Path, waiting: Callable[[], object] = lambda: None, *, extra: str = "rtx"
) -> Iterator[None]:
    """Hold a lock file in the block, and remove it at the end.

    Args:
        path: the lock file.
        waiting: called if another process has it.
        extra: extra of this package that brings the library.

    Raises:
        OSError: the file cannot be made.
    """
    filelock = require("filelock", extra)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        _release(lock, path)


def remove_unlocked(folder: Path) -> None:
    """Remove lock files of dead processes from a folder."""
    filelock = require("filelock", "rtx")
    for path in folder.glob(".*.lock"):
        lock = filelock.FileLock(path)
        with suppress(OSError):  # `Timeout` is an OSError: a running process holds it
            lock.acquire(timeout=0)
            _release(lock, path)


def _release(lock: Any, path: Path) -> None:
    # Removed while it is held: a process that opened it before notices that its name is gone, and
    # makes another. Windows cannot remove an open file; there it is removed on release.
    with suppress(OSError):
        path.unlink()
    lock.release()
