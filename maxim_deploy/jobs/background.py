"""Frames before and after the network, in threads of their own: a few ahead and a few behind.

    producing thread  -> room ->  the block  -> room ->  consuming thread

Queues have room for a few items, so that a fast side waits for the slow one and memory is bounded.
Both threads have ended when their blocks end, whatever ends them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")


@dataclass
class _End:
    """Follows the last item, with the thread's error if there was one."""

    error: BaseException | None = None


@contextmanager
def produce_ahead(items: Iterable[T], room: int) -> Iterator[Iterator[T]]:
    """Make items in a thread; at most `room` of them wait while the next one is made.

    An error of the thread is raised where the item would have come. At the end of the block the
    thread finishes its current item and ends.
    """
    queue: Queue[T | _End] = Queue(room)
    is_over = threading.Event()

    def make() -> None:
        end = _End()
        try:
            for item in items:
                queue.put(item)
                if is_over.is_set():
                    return
        except BaseException as error:
            end.error = error
        queue.put(end)

    def taken() -> Iterator[T]:
        while not isinstance(item := queue.get(), _End):
            yield item
        if item.error:
            raise item.error

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        is_over.set()
        # The thread may wait for room in a queue that nobody empties any more. `items` is safe to
        # close only once it has ended.
        while thread.is_alive():
            with suppress(Empty):
                queue.get_nowait()
            thread.join(0.01)


@contextmanager
def consume_behind(take: Callable[[T], object], room: int) -> Iterator[Callable[[T], None]]:
    """Call `take` in a thread with each item given to what this yields; at most `room` wait.

    An error of the thread is raised by the next call, or else at the end of the block, which waits
    until all items are done.
    """
    queue: Queue[T | _End] = Queue(room)
    errors: list[BaseException] = []

    def work() -> None:
        while not isinstance(item := queue.get(), _End):
            # After an error the rest is only taken out: whoever gives must not wait for room.
            if not errors:
                try:
                    take(item)
                except BaseException as error:
                    errors.append(error)

    def give(item: T) -> None:
        if errors:
            raise errors[0]
        queue.put(item)

    thread = threading.Thread(target=work, name="behind", daemon=True)
    thread.start()
    try:
        yield give
    finally:
        queue.put(_End())
        thread.join()
    # Not in `finally`: an error of the block itself goes first.
    if errors:
        raise errors[0]
