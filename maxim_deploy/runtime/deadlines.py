"""Call functions at given times, with one thread for all."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

IDLE_S = 10.0
"""Seconds after which an idle thread ends."""


@dataclass(order=True)
class Deadline:
    """`act` is called at `time`, in seconds of `time.monotonic`, unless it is dropped."""

    time: float
    number: int
    act: Callable[[], object] | None = field(compare=False)


class Deadlines:
    """Calls functions at their times. Thread-safe.

    Its thread starts with the first deadline and ends some seconds after the last.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[Deadline] = []
        self._numbers = itertools.count()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def call_at(self, when: float, act: Callable[[], object]) -> Deadline:
        """Call `act` at a time of `time.monotonic`, in this object's thread."""
        with self._changed:
            deadline = Deadline(when, next(self._numbers), act)
            heapq.heappush(self._heap, deadline)
            if self._thread is None:
                # A daemon: an exiting process waits for pictures but not for deadlines.
                self._thread = threading.Thread(
                    target=self._keep, name="maxim-deploy-deadlines", daemon=True
                )
                self._thread.start()
            elif self._heap[0] is deadline:
                self._changed.notify()
            return deadline

    def drop(self, deadline: Deadline) -> None:
        """Cancel a deadline. No effect if it was already called."""
        with self._changed:
            if deadline.act is None:
                return
            deadline.act = None
            self._dropped += 1
            if self._dropped * 2 > len(self._heap):
                # Removed at once: a service with long deadlines and short pictures would accumulate
                # them.
                self._heap = [each for each in self._heap if each.act]
                heapq.heapify(self._heap)
                self._dropped = 0

    def close(self) -> None:
        """End the thread. Pending functions are never called."""
        with self._changed:
            self._is_closed, self._heap, thread = True, [], self._thread
            self._changed.notify()
        if thread and thread is not threading.current_thread():
            thread.join()

    def _keep(self) -> None:
        while (act := self._next()) is not None:
            act()

    def _next(self) -> Callable[[], object] | None:
        """Wait for the next due function; None after idle time or at the end."""
        with self._changed:
            idle_until = time.monotonic() + IDLE_S
            while not self._is_closed:
                now = time.monotonic()
                if self._heap and self._heap[0].time <= now:
                    act, self._heap[0].act = self._heap[0].act, None
                    heapq.heappop(self._heap)
                    if act is None:
                        self._dropped -= 1
                        continue
                    return act
                if not self._heap and now >= idle_until:
                    break
                until = self._heap[0].time if self._heap else idle_until
                self._changed.wait(min(until - now, threading.TIMEOUT_MAX))
            self._thread = None
            return None
