"""A restorer as the network of a job. Its running calls can be ended."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

from maxim_deploy import runtime


class Calls:
    """Restores pixels for several threads, until it is abandoned.

    Args:
        restorer: other callers may use it at the same time; `abandon` does not end their calls.
        options: keyword arguments of each call.
    """

    def __init__(self, restorer: runtime.Restorer, **options: Any) -> None:
        self._restorer, self._options = restorer, options
        self._home = threading.get_ident()
        self._lock = threading.Lock()
        self._pending: set[Future[Any]] = set()
        self._is_abandoned = False

    def __call__(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Restore `[H, W, 3]`; raises as `Restorer`, and `CancelledError` once abandoned."""
        if threading.get_ident() == self._home:
            # Ctrl-C interrupts this thread, so its call ends by itself.
            alone: NDArray[Any] = self._restorer(pixels, **self._options)
            return alone
        future = self._restorer.submit(pixels, **self._options)
        with self._lock:
            self._pending.add(future)
            is_late = self._is_abandoned
        if is_late:  # this call began while `abandon` ended the others
            future.cancel()
        try:
            restored: NDArray[Any] = future.result()
            return restored
        finally:
            with self._lock:
                self._pending.discard(future)

    def abandon(self) -> None:
        """End the calls of other threads, even in the middle of a picture."""
        with self._lock:
            self._is_abandoned, pending = True, [*self._pending]
        # Without the lock: the threads that wait for these futures take it.
        for future in pending:
            future.cancel()
