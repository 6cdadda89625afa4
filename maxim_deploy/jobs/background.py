"""Threads for the frames before and after the network: a few ahead and a few behind.

    producing thread  -> room ->  the block  -> room ->  consuming thread

Only a few items fit into each room, so a fast side waits for the slow one and memory is bounded.
Each thread has ended when its block ends, even after an error. Within the block, `in_order` keeps
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

    An error in the thread is raised in place of its item. At the end of the block the thread
    finishes its current item and ends.
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
            # Unstarted work is dropped. Started work must end before the caller closes `items`.
            pool.shutdown(cancel_futures=True)


@contextmanager
def consume_behind(take: Callable[[T], object], room: int) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands an item to `take` in a thread; at most `room` items wait.

    An error in the thread is raised by the next call of that function, or else at the end of the
    block. The end of the block waits until all items are done. After an error `take` gets no
    further item.
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

    # The pool ends last. Items that were given before an error in the block are still taken,
    # because the frames before a failure are kept.
    with ThreadPoolExecutor(1, "behind") as pool:

        def give(item: T) -> None:
            # Finished work is collected too, so that its error shows before the network runs again.
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
    """Yield each item with the result of `call`, in the order of the items.

    Args:
        items: taken one by one, in the thread that iterates.
        call: runs in the iterating thread if there is one lane. Otherwise it runs in one thread
            more than there are lanes, so that an item is ready when a lane becomes free.
        lanes: the number of calls that may run at a time.
        abandon: ends the calls that are running. It is called if this generator is closed early or
            interrupted.

    An error of a call is raised in place of its result.
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
            # Before the pool ends, because its end waits for started calls.
            for _, future in waiting:
                future.cancel()
            abandon()
            raise
