"""Admission and cancellation of the calls of a `Restorer`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator

from maxim_deploy.errors import QueueFullError
from maxim_deploy.runtime.turns import Stop

End = Callable[[BaseException], object]
"""Ends a call early for a reason."""


class Admission:
    """Counts calls from their submission to their end. Thread-safe.

    Attributes:
        lanes: number of calls that run at a time.

    Args:
        lanes: the initial number.
        queue: most waiting calls; None for no limit.
    """

    def __init__(self, lanes: int, queue: int | None) -> None:
        self.lanes, self._queue = lanes, queue
        self._lock = threading.Lock()
        self._ends: dict[Hashable, End] = {}

    def enter(self, call: Hashable, end: End) -> None:
        """Admit a call.

        Raises:
            QueueFullError: the queue is full.
        """
        with self._lock:
            if self._queue is not None and len(self._ends) >= self.lanes + self._queue:
                waiting = len(self._ends) - self.lanes
                raise QueueFullError(
                    f"this Restorer is busy | {self.lanes} run and {waiting} wait | it was loaded "
                    f"with queue={self._queue} | try again later, or load it with a longer queue"
                )
            self._ends[call] = end

    def leave(self, call: Hashable) -> None:
        """Count the end of a call."""
        with self._lock:
            self._ends.pop(call, None)

    @contextlib.contextmanager
    def call(self, stop: Stop) -> Iterator[None]:
        """A call in its caller's thread, which `stop` can end early. Raises as `enter`."""
        self.enter(stop, stop.set)
        try:
            yield
        finally:
            self.leave(stop)

    def end_all(self, reason: Callable[[], BaseException]) -> None:
        """End all calls early, each with its own reason."""
        with self._lock:
            ends = list(self._ends.values())
        # Without the lock: ended calls take it to leave.
        for end in ends:
            end(reason())
