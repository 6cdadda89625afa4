"""Whose turn it is to run the network, and what ends the turn early."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


class Stop:
    """A request to end a run early, made at most once and from any thread."""

    def __init__(self) -> None:
        # Reentrant: what is called when it is set may ask whether it is set.
        self._lock = threading.RLock()
        self._reason: BaseException | None = None
        self._halts: list[Callable[[], object]] = []

    def set(self, reason: BaseException) -> None:
        """Ask for the end; the first reason stays. Whatever runs now is told in this thread."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
                for halt in self._halts:
                    halt()

    @property
    def reason(self) -> BaseException | None:
        """What the one who waits is to be told; None as long as nobody has asked."""
        return self._reason

    def raise_if_set(self) -> None:
        """Raise the reason, if there is one."""
        if self._reason is not None:
            raise self._reason

    @contextlib.contextmanager
    def calling(self, halt: Callable[[], object]) -> Iterator[None]:
        """Call a function once if the end is asked for before this block is left.

        Args:
            halt: makes a run return soon; at once if the end was asked for before. It is called in
                the thread that asks, and never after the block.
        """
        with self._lock:
            self._halts.append(halt)
            if self._reason is not None:
                halt()
        try:
            yield
        finally:
            # The lock waits for a call that has begun, which may use what the block owns.
            with self._lock:
                self._halts.remove(halt)


@dataclass(frozen=True)
class Turn:
    """One caller's use of a backend.

    Attributes:
        is_alone: no other turn begins while this one lasts, so that a run may use every thread.
        stop: the caller's.
    """

    is_alone: bool = True
    stop: Stop = field(default_factory=Stop)


class Turns:
    """At most so many callers at a time, each with a turn of its own; or one with all of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.Semaphore(count)
        self._only = threading.Lock()

    @contextlib.contextmanager
    def one(self, stop: Stop | None = None) -> Iterator[Turn]:
        """Have a turn."""
        with self._free:
            yield Turn(self._count == 1, stop or Stop())

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Have every turn: nobody else is running."""
        # One collector at a time: two that each held some turns would wait for each other.
        with self._only, contextlib.ExitStack() as turns:
            for _ in range(self._count):
                turns.enter_context(self._free)
            yield
