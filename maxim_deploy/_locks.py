"""Locks between processes, on files and folders; the system releases those of a dead process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Lock:
    """An attempt to lock a file or directory for this process, as long as it lives.

    Args:
        path: what to lock; it must exist, and need not be writable.
        shared: whether others may have a shared lock at the same time.
        wait: whether to wait for those who have it.

    Attributes:
        state: "ours"; "taken" by another process, or the file is gone; or "unknown" where nothing
            can be locked, as on Windows and some network file systems.
    """

    def __init__(self, path: Path, *, shared: bool = False, wait: bool = False) -> None:
        self.state, self._number = "unknown", -1
        if fcntl is None:
            return
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            self._number = os.open(path, os.O_RDONLY)
            fcntl.flock(self._number, mode)
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


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for a lock and hold it in the block; where nothing can be locked, hold nothing."""
    lock = Lock(path, shared=shared, wait=True)
    try:
        yield
    finally:
        lock.release()
