"""Work ahead and behind: bounded, in order, with errors that show, and threads that end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from maxim_deploy.jobs.background import consume_behind, produce_ahead


def settled(counter: list[int]) -> int:
    """How many items there are once no more come."""
    count = -1
    while count != len(counter):
        count = len(counter)
        time.sleep(0.05)
    return count


def test_items_come_in_order_and_no_more_than_room_are_ahead():
    made: list[int] = []

    def items() -> Iterator[int]:
        for k in range(20):
            made.append(k)
            yield k

    with produce_ahead(items(), 2) as taken:
        assert settled(made) == 3  # two wait, one is in the making
        assert next(taken) == 0
        assert settled(made) == 4
        assert list(taken) == list(range(1, 20))


def test_whoever_leaves_early_leaves_no_thread():
    with produce_ahead(itertools.count(), 2) as taken:
        assert next(taken) == 0


def test_an_error_ahead_comes_in_its_place():
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("a bug")

    with produce_ahead(items(), 2) as taken:
        assert next(taken) == 1
        with pytest.raises(ZeroDivisionError):
            next(taken)


def test_everything_given_is_done_in_order_and_giving_waits_for_room():
    done: list[int] = []
    given: list[int] = []
    gate = threading.Event()

    def take(item: int) -> None:
        gate.wait(10)
        done.append(item)

    def open_gate() -> None:
        assert settled(given) == 3  # two wait, one is being done
        gate.set()

    opener = threading.Thread(target=open_gate)
    opener.start()
    with consume_behind(take, 2) as give:
        for k in range(10):
            give(k)
            given.append(k)
    opener.join()
    assert done == list(range(10))


@pytest.mark.parametrize("count", [1, 50])
def test_an_error_behind_shows_and_stops_the_rest(count: int):
    done: list[int] = []

    def take(item: int) -> None:
        done.append(item)
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError), consume_behind(take, 2) as give:
        for k in range(count):
            give(k)
    assert done == [0]


def test_an_error_of_the_block_itself_goes_first():
    with pytest.raises(KeyboardInterrupt), consume_behind(lambda _: 1 / 0, 2) as give:
        give(1)
        raise KeyboardInterrupt
