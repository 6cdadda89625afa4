"""Who runs when, and beside whom: turns, pictures in tiles, small ones beside large ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from runtime.fakes import Doubling, Stoppable, image_of, restorer_of

from maxim_deploy import CancelledError
from maxim_deploy.runtime.turns import LARGE_PIXELS, Policy, Stop, Turn, Turns

SMALL, LARGE = 64 * 64, 4 * LARGE_PIXELS


def turn(pixels: int = 0, *, alone: bool = False, passes: bool = False, only: bool = False) -> Turn:
    made = Turn(alone, pixels=pixels, only=only)
    made._passes = passes
    return made


@pytest.mark.parametrize(
    ("policy", "running", "callers", "expected"),
    [
        # One lane: one at a time, and alone.
        (Policy(1), [], 2, True),
        (Policy(1), [turn(LARGE, alone=True)], 1, None),
        # A GPU's lanes: side by side from the first one on.
        (Policy(2), [], 1, False),
        (Policy(2), [turn()], 1, False),
        (Policy(2), [turn(), turn()], 1, None),
        # A CPU's lanes: alone if nobody else is there.
        (Policy(2, prefers_alone=True), [], 1, True),
        (Policy(2, prefers_alone=True), [], 2, False),
        # As few as these would leave most threads idle.
        (Policy(16, prefers_alone=True), [], 11, True),
        (Policy(16, prefers_alone=True), [], 12, False),
        (Policy(2, prefers_alone=True), [turn(alone=True)], 1, None),
        (Policy(2, prefers_alone=True), [turn()], 1, False),
        (Policy(2, prefers_alone=True), [turn(), turn()], 1, None),
        # A small one beside a large one, and no second one.
        (Policy(1, lets_pass=True), [turn(LARGE, alone=True)], 1, False),
        (Policy(1, lets_pass=True), [turn(LARGE), turn(SMALL, passes=True)], 1, None),
        (Policy(1, lets_pass=True), [turn(LARGE_PIXELS, alone=True)], 1, None),
        (Policy(2, lets_pass=True), [turn(LARGE), turn(LARGE)], 1, False),
        (Policy(2, lets_pass=True), [turn(LARGE), turn(SMALL)], 1, None),
    ],
)
def test_the_policy(policy, running, callers, expected) -> None:
    assert policy.is_alone(turn(SMALL), running, callers) is expected


def test_what_passes_is_a_quarter_at_most_and_known() -> None:
    policy, running = Policy(1, lets_pass=True), [turn(LARGE)]
    assert policy.may_pass(turn(LARGE // 4), running)
    assert not policy.may_pass(turn(LARGE // 4 + 1), running)
    assert not policy.may_pass(turn(0), running), "closing passes nobody"
    assert policy.is_alone(turn(SMALL, only=True), running) is None


class Crowd:
    """Threads that take turns, and the order in which they had them."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.order, self.threads = turns, list[str](), list[threading.Thread]()

    def ask(self, name: str, work: Callable[[Turn], object] = lambda _: None, **options) -> None:
        """Ask for a turn in a thread, behind all who have asked before."""

        def have() -> None:
            with self.turns.one(**options) as mine:
                self.order.append(name)
                work(mine)

        self._begin(have)

    def close(self) -> None:
        def have() -> None:
            with self.turns.all():
                self.order.append("closed")

        self._begin(have)

    def _begin(self, have: Callable[[], None]) -> None:
        asked = len(self.turns._waiting) + len(self.turns._running)
        self.threads.append(threading.Thread(target=have))
        self.threads[-1].start()
        while len(self.turns._waiting) + len(self.turns._running) == asked:
            threading.Event().wait(0.001)

    def end(self) -> list[str]:
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        assert not self.turns._waiting and not self.turns._running
        return self.order


def test_turns_come_in_the_order_of_asking() -> None:
    crowd, go = Crowd(Turns()), threading.Event()
    crowd.ask("first", lambda _: go.wait(20))
    for name in "abcdefgh":
        crowd.ask(name)
    go.set()
    assert crowd.end() == ["first", *"abcdefgh"]


def test_one_that_gives_way_has_its_turn_behind_all_who_waited() -> None:
    turns = Turns()
    crowd, go = Crowd(turns), threading.Event()

    def long(mine: Turn) -> None:
        go.wait(20)
        while turns.share(mine):
            turns.again(mine)
            crowd.order.append("again")

    crowd.ask("long", long)
    crowd.ask("a")
    crowd.ask("b")
    go.set()
    assert crowd.end() == ["long", "a", "b", "again"]


def test_sharing_ends_being_alone_and_keeps_the_turn() -> None:
    turns, go = Turns(2, prefers_alone=True), threading.Event()
    crowd = Crowd(turns)
    found: list[tuple[bool, bool, bool]] = []

    def long(mine: Turn) -> None:
        was_alone = mine.is_alone
        go.wait(20)
        found.append((was_alone, turns.share(mine), mine.is_alone))

    crowd.ask("long", long)
    crowd.ask("beside", lambda mine: found.append((mine.is_alone,)))
    assert crowd.order == ["long"], "a lone run has every thread"
    go.set()
    crowd.end()
    assert (True, False, False) in found and (False,) in found


def test_callers_that_wait_for_each_other_share_the_lanes() -> None:
    """While one starts, the other has not come back: each would be alone, one after the other."""
    turns, go, alone = Turns(2, prefers_alone=True), threading.Event(), list[bool]()
    crowd = Crowd(turns)

    def first(mine: Turn) -> None:
        alone.append(mine.is_alone)
        go.wait(20)

    crowd.ask("first", first)
    crowd.ask("second", lambda mine: alone.append(mine.is_alone))
    go.set()
    crowd.end()
    assert alone == [True, False]


def test_a_turn_that_shares_is_never_alone_at_its_start() -> None:
    turns = Turns(2, prefers_alone=True)
    with turns.one(shares=True) as mine:
        assert not mine.is_alone


def test_a_long_call_is_alone_again_when_the_others_have_gone() -> None:
    turns, go = Turns(2, prefers_alone=True), threading.Event()
    crowd = Crowd(turns)
    crowd.ask("first", lambda _: go.wait(20), shares=True)
    with turns.one() as mine:
        assert not mine.is_alone and not turns.share(mine) and not mine.is_alone
        go.set()
        crowd.threads[0].join(20)
        assert not turns.share(mine) and mine.is_alone


def test_lanes_of_a_gpu_are_not_alone_again() -> None:
    turns = Turns(2)
    with turns.one() as mine:
        assert not turns.share(mine) and not mine.is_alone


def test_closing_waits_for_one_between_two_of_its_runs() -> None:
    """And nobody else begins meanwhile."""
    turns, go = Turns(), threading.Event()
    crowd = Crowd(turns)

    def long(mine: Turn) -> None:
        go.wait(20)
        for _ in range(3):
            assert turns.share(mine)
            turns.again(mine)
        crowd.order.append("finished")

    crowd.ask("long", long)
    crowd.close()
    crowd.ask("late")
    go.set()
    assert crowd.end() == ["long", "finished", "closed", "late"]


def test_one_that_wants_nobody_beside_it_is_not_passed_for_ever() -> None:
    turns, go = Turns(2), threading.Event()
    crowd = Crowd(turns)
    crowd.ask("first", lambda _: go.wait(20))
    crowd.ask("only", lambda mine: crowd.order.append(str(mine.is_alone)), only=True)
    crowd.ask("last")
    assert crowd.order == ["first"]
    go.set()
    assert crowd.end() == ["first", "only", "True", "last"]


def test_a_stop_ends_the_wait_and_lets_the_next_one_begin() -> None:
    turns, go, stop = Turns(2), threading.Event(), Stop()
    crowd, errors = Crowd(turns), list[BaseException]()
    crowd.ask("first", lambda _: go.wait(20))

    def stopped() -> None:
        try:
            with turns.one(stop, only=True):
                raise AssertionError
        except CancelledError as error:
            errors.append(error)

    crowd._begin(stopped)
    crowd.ask("behind")
    reason = CancelledError("not now")
    assert stop.set(reason) and not stop.set(CancelledError("later"))
    crowd.threads[-1].join(20)
    assert crowd.order == ["first", "behind"]
    go.set()
    crowd.end()
    assert errors == [reason] and stop.close() is reason


def test_nobody_stops_what_has_ended() -> None:
    stop, called = Stop(), []
    with stop.calling(lambda: called.append(1)):
        assert stop.close() is None
    assert not stop.set(CancelledError("late")) and stop.reason is None and not called


# ------------------------------------------------------------------ pictures


class Ordered(Doubling):
    """Notes the sizes of its runs in their order; the first waits until it is let go."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.begun, self.let_go = threading.Event(), threading.Event()

    def run(self, image: np.ndarray) -> np.ndarray:
        self.begun.set()
        assert self.let_go.wait(20)
        return super().run(image)


def waiting(restorer, count: int) -> None:
    """Until so many wait for a turn."""
    while len(restorer._work._turns._waiting) < count:
        threading.Event().wait(0.001)


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_a_small_picture_waits_for_a_tile_of_a_large_one(self_ensemble) -> None:
    backend = Ordered()
    restorer = restorer_of(backend, tile=512)
    image = image_of(1024, 1024)
    large = restorer.submit(image, self_ensemble=self_ensemble)
    assert backend.begun.wait(20)
    small = [restorer.submit(image_of(64, 64)) for _ in range(2)]
    waiting(restorer, 2)
    backend.let_go.set()
    assert np.abs(large.result(60) - 2 * image).max() < 1e-5
    assert all(future.done() for future in small)
    sides = [dims[3] for dims in backend.shapes]
    assert sides[:4] == [512, 64, 64, 512]
    restorer.close()


def test_a_large_picture_whole_in_eight_orientations_gives_way_too() -> None:
    backend = Ordered()
    restorer = restorer_of(backend)
    large = restorer.submit(image_of(1024, 512), self_ensemble=True)
    assert backend.begun.wait(20)
    small = restorer.submit(image_of(64, 64))
    waiting(restorer, 1)
    backend.let_go.set()
    assert small.result(60).shape == (64, 64, 3) and large.result(60).shape == (1024, 512, 3)
    assert [dims[2:] for dims in backend.shapes[:3]] == [(1024, 512), (64, 64), (512, 1024)]
    restorer.close()


def test_many_large_pictures_leave_threads_for_small_ones() -> None:
    """All threads of a restorer once waited for large pictures, and small ones for a thread."""
    backend = Ordered()
    restorer = restorer_of(backend, tile=512)
    large = [restorer.submit(image_of(1024, 1024)) for _ in range(6)]
    assert backend.begun.wait(20)
    small = restorer.submit(image_of(64, 64))
    backend.let_go.set()
    assert small.result(60).shape == (64, 64, 3)
    position = [dims[3] for dims in backend.shapes].index(64)
    for future in large:
        future.result(60)
    # The first picture's tiles, but for the time in which the others were looked at.
    assert position < len(backend.shapes) - 10
    restorer.close()


def test_a_large_picture_is_not_kept_back_by_a_stream_of_small_ones() -> None:
    backend = Ordered()
    backend.let_go.set()
    restorer, stop = restorer_of(backend, tile=512), threading.Event()

    def small() -> None:
        while not stop.is_set():
            restorer(image_of(64, 64))

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(small) for _ in range(3)]
        try:
            assert restorer.submit(image_of(1024, 1024)).result(60).shape == (1024, 1024, 3)
        finally:
            stop.set()
        for caller in callers:
            caller.result(20)
    restorer.close()


def test_a_small_picture_passes_a_large_one_that_runs_whole() -> None:
    backend = Stoppable()
    backend.lets_pass = True
    restorer = restorer_of(backend)
    large = restorer.submit(image_of(1024, 1024))
    backend.has_begun(1024, 1024)
    small, next_small = restorer.submit(image_of(64, 64)), restorer.submit(image_of(64, 128))
    backend.has_begun()
    assert backend.begun.empty() and len(restorer._work._turns._running) == 2
    assert small.cancel()
    backend.has_begun(64, 128)
    assert next_small.cancel() and not large.done()
    backend.let_go.set()
    assert large.result(20).shape == (1024, 1024, 3)
    restorer.close()


def test_it_passes_only_within_the_memory_that_is_left() -> None:
    backend = Stoppable()
    backend.lets_pass = True
    restorer = restorer_of(backend)
    limit = restorer.plan(1024, 1024).bytes + restorer.plan(64, 64).bytes - 1
    backend.free_bytes = lambda: limit
    large = restorer.submit(image_of(1024, 1024))
    backend.has_begun(1024, 1024)
    small = restorer.submit(image_of(64, 64))
    waiting(restorer, 1)
    assert restorer._work._turns._waiting[0].only and backend.begun.empty()
    backend.let_go.set()
    assert small.result(20).shape == (64, 64, 3) and large.result(20) is not None
    assert restorer._work._memory._reserved == {}
    restorer.close()


def test_lanes_of_a_cpu_are_for_several_and_one_is_alone() -> None:
    backend = Stoppable(lanes=2)
    restorer = restorer_of(backend)
    first = restorer.submit(image_of(64, 64))
    backend.has_begun()
    others = [restorer.submit(image_of(64, 64)) for _ in range(3)]
    waiting(restorer, 3)
    assert backend.turns[0].is_alone and backend.begun.empty()
    backend.let_go.set()
    for future in (first, *others):
        assert future.result(20) is not None
    assert len(backend.turns) == 4 and not backend.turns[1].is_alone
    restorer.close()


@pytest.mark.parametrize(("missing", "beside"), [(0, 2), (1, 1)])
def test_runs_side_by_side_share_the_memory_there_is(missing: int, beside: int) -> None:
    """A plan is the same whoever runs; where there is no room for two, the second one waits."""
    backend = Stoppable(lanes=2)
    restorer = restorer_of(backend)
    limit = 2 * restorer.plan(64, 64).bytes - missing
    backend.free_bytes = lambda: limit
    blocker = restorer.submit(image_of(64, 64))
    backend.has_begun()
    several = [restorer.submit(image_of(64, 64)) for _ in range(2)]
    waiting(restorer, 2)
    blocker.cancel()
    for _ in range(beside):
        backend.has_begun()
    waiting(restorer, 2 - beside)
    assert len(restorer._work._turns._running) == beside
    backend.let_go.set()
    assert all(future.result(20) is not None for future in several)
    assert restorer._work._memory._reserved == {}
    restorer.close()
