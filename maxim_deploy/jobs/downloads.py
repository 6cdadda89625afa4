"""Downloads inputs to temporary files, a few ahead of the requested one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from maxim_deploy.errors import CancelledError

AHEAD = 4
"""Files that are downloaded before they are requested. A store's latency limits more than its
bandwidth, so several downloads at a time pay."""

AHEAD_BYTES = 2**30
"""Bytes on the disk of the files ahead together. A larger file is downloaded on request."""


_UNKNOWN_BYTES = 64 * 2**20
"""Bytes that a file counts for if the store does not report its size."""


class Downloads:
    """Downloads files in the order of a run; any number of threads may request them.

    The disk holds the files that were requested and not yet released, and the files ahead.

    Args:
        fetch: downloads to a path, until the event is set.
        sizes: bytes of each file, in the order of the run; None if unknown.
    """

    def __init__(
        self, fetch: Callable[[Path, threading.Event], object], sizes: Mapping[Path, int | None]
    ) -> None:
        self._fetch, self._sizes = fetch, sizes
        self._order: list[Path] = []
        self._at: dict[Path, int] = {}
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = ThreadPoolExecutor(AHEAD, "maxim-deploy-download")
        self._under_way: dict[Path, Future[object]] = {}
        self._ahead, self._released = set[Path](), set[Path]()

    def bring(self, path: Path) -> None:
        """Wait until a file has been downloaded. A path that is no download returns at once.

        Raises:
            MaximDeployError: the file cannot be downloaded, or `stop` was called.
            OSError: the disk failed.
        """
        if path not in self._sizes:
            return
        with self._lock:
            if not self._at:
                # Only now is the order known: an earlier run may have finished nearly all files.
                self._order = [one for one in self._sizes if one not in self._released]
                self._at = {one: at for at, one in enumerate(self._order)}
            brought = self._begun(path)
            self._ahead.discard(path)
            self._begin_ahead(self._at[path] + 1)
        try:
            brought.result()
        except FutureCancelledError:  # our `CancelledError` is a subclass of it
            raise CancelledError("interrupted") from None

    def release(self, path: Path) -> None:
        """Remove a file that is no longer needed, or never will be."""
        with self._lock:
            self._released.add(path)
            self._ahead.discard(path)
            if self._under_way.pop(path, None):
                path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Start no further downloads and end the running ones, without waiting for their end."""
        with self._lock:
            self._stop.set()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Stop, and wait for running downloads to end."""
        self.stop()
        self._threads.shutdown()

    def _begun(self, path: Path) -> Future[object]:
        if path not in self._under_way:
            if self._stop.is_set():
                raise CancelledError("interrupted")
            self._under_way[path] = self._threads.submit(self._fetch, path, self._stop)
        return self._under_way[path]

    def _begin_ahead(self, at: int) -> None:
        """Start the next downloads, up to the limits of number and bytes."""
        bytes_ahead = sum(self._size(path) for path in self._ahead)
        for path in islice(self._order, at, at + AHEAD):
            if path in self._under_way:
                continue
            bytes_ahead += self._size(path)
            if bytes_ahead > AHEAD_BYTES or self._stop.is_set():
                return
            self._ahead.add(path)
            self._begun(path)

    def _size(self, path: Path) -> int:
        size = self._sizes[path]
        return _UNKNOWN_BYTES if size is None else size
