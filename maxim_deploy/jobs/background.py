"""Frames before and after the network, in threads of their own: a few ahead and a few behind.

    producing thread  -> room ->  the block  -> room ->  consuming thread

There is room for a few items, so that a fast side waits for the slow one and memory is bounded.
Both threads have ended when their blocks end, whatever ends them. In the block `in_order` has
several items in the network at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_END = object()
"""Follows the last item."""


@contextmanager
def produce_ahead(items: Iterable[T], room: int) -> Iterator[Iterator[T]]:
    """Make items in a thread; at most `room` of them wait while the next one is made.

    An error of the thread is raised where the item would have come. At the end of the block the
    thread finishes its current item and ends.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "ahead") as pool:

        def make() -> Future[Any]:
            return pool.submit(next, source, _END)

        waiting = deque(make() for _ in range(room + 1))

        def taken() -> Iterator[T]:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(make())
                yield item

        try:
            yield taken()
        finally:
            # Unstarted work is dropped. Started work must end before `items` may be closed.
            pool.shutdown(cancel_futures=True)


@contextmanager
def consume_behind(take: Callable[[T], object], room: int) -> Iterator[Callable[[T], None]]:
    """Call `take` in a thread with each item given to what this yields; at most `room` wait.

    An error of the thread is raised by the next call, or else at the end of the block, which waits
    until all items are done. After an error no other item is taken.
    """
    waiting: deque[Future[object]] = deque()
    errors: list[BaseException] = []

    def take_unless_failed(item: T) -> None:
        if not errors:
            try:
                take(item)
            except BaseException as error:
                errors.append(error)
                raise

    # The pool is left last: what was given before an error of the block is done all the same, for
    # the frames before a failure are kept.
    with ThreadPoolExecutor(1, "behind") as pool:

        def give(item: T) -> None:
            # Finished work is collected too: its error should show before the network runs again.
            while waiting and (len(waiting) > room or waiting[0].done()):
                waiting.popleft().result()
            waiting.append(pool.submit(take_unless_failed, item))

        yield give
        for future in waiting:
            future.result()


def in_order(
    items: Iterable[T],
    call: Callable[[T], R],
    lanes: int,
    abandon: Callable[[], object] = lambda: None,
) -> Generator[tuple[T, R]]:
    """Each item and what `call` makes of it, in the order of the items.

    Args:
        items: taken one by one, in the thread that iterates.
        call: with one lane it is called in that thread too; else in others, one more than lanes,
            so that an item is ready when a lane becomes free.
        lanes: for how many calls at a time there is something to gain.
        abandon: ends the calls under way. Called if this is closed early or interrupted.

    An error of a call is raised where its result would have come.
    """
    if lanes == 1:
        for item in items:
            yield item, call(item)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(lanes + 1, "maxim-deploy-network") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(call, item)))
                if len(waiting) > lanes:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for item, future in waiting:
                yield item, future.result()
        except BaseException:
            # Before the pool is left, which waits for what it has begun.
            for _, future in waiting:
                future.cancel()
            abandon()
            raise
