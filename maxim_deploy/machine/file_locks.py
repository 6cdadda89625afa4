"""Lock files between processes that leave no file behind; on Windows too, unlike `_locks`."""

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
    """Hold a lock file in the block; it is removed at the end.

    Args:
        path: the lock file.
        waiting: called if another process has it.
        extra: of this package, which brings the library.

    Raises:
        OSError: it cannot be made.
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
    """Remove the lock files in a folder that processes have left which died."""
    filelock = require("filelock", "rtx")
    for path in folder.glob(".*.lock"):
        lock = filelock.FileLock(path)
        with suppress(OSError):  # `Timeout` is one: a living process has it
            lock.acquire(timeout=0)
            _release(lock, path)


def _release(lock: Any, path: Path) -> None:
    # Removed while it is held: whoever opened it before sees that it has no name any more, and
    # makes another. Windows removes no open file; there it goes when it is let go.
    with suppress(OSError):
        path.unlink()
    lock.release()
