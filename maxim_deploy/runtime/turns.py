"""Whose turn it is to run the network."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turns:
    """At most so many callers at a time, each with a turn of its own; or one with all of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.Semaphore(count)
        self._only = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Have a turn."""
        with self._free:
            yield

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Have every turn: nobody else is running."""
        # One collector at a time: two that each held some turns would wait for each other.
        with self._only, contextlib.ExitStack() as turns:
            for _ in range(self._count):
                turns.enter_context(self._free)
            yield
