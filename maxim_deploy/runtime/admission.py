"""The calls of a `Restorer` that have not ended: how many there may be, and what ends them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator

from maxim_deploy.errors import QueueFullError
from maxim_deploy.runtime.turns import Stop

End = Callable[[BaseException], object]
"""Asks for the early end of a call, and gives the reason."""


class Admission:
    """Counts calls from when they are made, or submitted, until they have ended. Thread-safe.

    Attributes:
        lanes: that run at a time.

    Args:
        lanes: as above, for now.
        queue: how many may wait beside those; None for any number.
    """

    def __init__(self, lanes: int, queue: int | None) -> None:
        self.lanes, self._queue = lanes, queue
        self._lock = threading.Lock()
        self._ends: dict[Hashable, End] = {}

    def enter(self, call: Hashable, end: End) -> None:
        """Admit a call.

        Raises:
            QueueFullError: as many wait as may.
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
        """A call has ended."""
        with self._lock:
            self._ends.pop(call, None)

    @contextlib.contextmanager
    def call(self, stop: Stop) -> Iterator[None]:
        """A call in the thread of its caller, which `stop` ends early. Raises as `enter`."""
        self.enter(stop, stop.set)
        try:
            yield
        finally:
            self.leave(stop)

    def end_all(self, reason: Callable[[], BaseException]) -> None:
        """End all calls early, each for a reason of its own."""
        with self._lock:
            ends = list(self._ends.values())
        # Without the lock: a call that has ended leaves.
        for end in ends:
            end(reason())
