"""Work before and after the network in threads of its own, a few items ahead and behind."""

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
    """Behind the last item; with what went wrong, if anything did."""

    error: BaseException | None = None


@contextmanager
def ahead(items: Iterable[T], room: int) -> Iterator[Iterator[T]]:
    """Make items in a thread; at most `room` wait, beside the one in the making.

    What goes wrong there is raised where the item would have come. When the block ends, the
    thread does, after the item that it is at.
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
        while thread.is_alive():  # it may wait for room
            with suppress(Empty):
                queue.get_nowait()
            thread.join(0.01)


@contextmanager
def behind(take: Callable[[T], object], room: int) -> Iterator[Callable[[T], None]]:
    """Have a thread do `take` with all that is given to what this yields; at most `room` wait.

    What goes wrong there is raised by the next call, or else at the end of the block, which waits
    until everything is done.
    """
    queue: Queue[T | _End] = Queue(room)
    errors: list[BaseException] = []

    def work() -> None:
        while not isinstance(item := queue.get(), _End):
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
    if errors:
        raise errors[0]
