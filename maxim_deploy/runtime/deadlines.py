"""Things to do at a time, by one thread for all of them."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

IDLE_S = 10.0
"""Seconds after which a thread with nothing to wait for ends."""


@dataclass(order=True)
class Deadline:
    """An appointment: `act` is called at `time`, in seconds of `time.monotonic`, unless dropped."""

    time: float
    number: int
    act: Callable[[], object] | None = field(compare=False)


class Deadlines:
    """Calls functions when their time has come. Thread-safe.

    Its thread begins at the first deadline and ends some seconds after the last one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[Deadline] = []
        self._numbers = itertools.count()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def call_at(self, when: float, act: Callable[[], object]) -> Deadline:
        """Call `act` at a time of `time.monotonic`, in the thread of the deadlines."""
        with self._changed:
            deadline = Deadline(when, next(self._numbers), act)
            heapq.heappush(self._heap, deadline)
            if self._thread is None:
                # A daemon: a process that ends waits for pictures, and for no deadline.
                self._thread = threading.Thread(
                    target=self._keep, name="maxim-deploy-deadlines", daemon=True
                )
                self._thread.start()
            elif self._heap[0] is deadline:
                self._changed.notify()
            return deadline

    def drop(self, deadline: Deadline) -> None:
        """Do not call it any more; no effect if it was called."""
        with self._changed:
            if deadline.act is None:
                return
            deadline.act = None
            self._dropped += 1
            if self._dropped * 2 > len(self._heap):
                # So that a service with long deadlines and short pictures does not collect them.
                self._heap = [each for each in self._heap if each.act]
                heapq.heapify(self._heap)
                self._dropped = 0

    def close(self) -> None:
        """End the thread; what was not called yet never is."""
        with self._changed:
            self._is_closed, self._heap, thread = True, [], self._thread
            self._changed.notify()
        if thread and thread is not threading.current_thread():
            thread.join()

    def _keep(self) -> None:
        while (act := self._next()) is not None:
            act()

    def _next(self) -> Callable[[], object] | None:
        """The next function whose time has come; None after some idle time, or at the end."""
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
