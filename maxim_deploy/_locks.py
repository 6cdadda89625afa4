"""Locks between processes, on files and folders; the system releases those of a dead process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maxim_deploy._reading import AT_ONCE, NO_FOLLOW

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


PATIENCE = 60.0
"""Seconds to wait for a lock. Holders need milliseconds, or the time to load a bundle."""

_PAUSE = 0.005


class Lock:
    """An attempt to lock a file or directory for the life of this process.

    Args:
        path: file or directory to lock. It must exist, and need not be writable.
        shared: whether others may have a shared lock at the same time.
        wait: seconds to wait for other holders.

    Attributes:
        state: "ours"; "taken" if another process has it or the file is gone; "unknown" where locks
            do not exist, as on Windows and some network file systems.
    """

    def __init__(self, path: Path, *, shared: bool = False, wait: float = 0) -> None:
        self.state, self._number = "unknown", -1
        if fcntl is None:
            return
        self._mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        try:
            self._number = os.open(path, os.O_RDONLY | NO_FOLLOW | AT_ONCE)
        except OSError as error:
            self.state = "taken" if isinstance(error, FileNotFoundError) else "unknown"
            return
        deadline = time.monotonic() + wait
        # The system would wait without end, and the holder may be suspended.
        while (state := self._attempt()) == "taken" and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        self.state = state

    def _attempt(self) -> str:
        try:
            fcntl.flock(self._number, self._mode)
        except BlockingIOError:
            return "taken"
        except OSError:
            return "unknown"
        return "ours"

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock in the block. Without one after `PATIENCE`, run the block without it."""
    lock = Lock(path, shared=shared, wait=PATIENCE)
    try:
        yield
    finally:
        lock.release()
