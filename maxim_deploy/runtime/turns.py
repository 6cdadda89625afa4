"""Turns of callers to run the network, and their early end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from maxim_deploy.errors import UsageError

LARGE_PIXELS = 512 * 512
"""Least padded pixels of a run that small runs may pass. They wait for shorter runs."""

TIMES_LARGER = 4
"""A run passes only a run of at least this multiple of its pixels, which it slows down little."""


def fills(count: int, lanes: int) -> bool:
    """Whether so many runs beside each other are faster than one after another on every thread.

    All lanes together were 1.1 to 1.5 times as fast, and a lane without a run leaves its threads
    idle.
    """
    return 4 * count >= 3 * lanes


class Stop:
    """A request to end a call early. It is made at most once, from any thread."""

    def __init__(self) -> None:
        # Reentrant: functions called on setting may query it.
        self._lock = threading.RLock()
        self._reason: BaseException | None = None
        self._halts: list[Callable[[], object]] = []
        self._is_closed = False

    def set(self, reason: BaseException) -> bool:
        """Request the end. Running work is notified in this thread.

        Returns:
            Whether this reason counts: False after another reason or after the end of the call.
        """
        with self._lock:
            if self._reason is not None or self._is_closed:
                return False
            self._reason = reason
            for halt in self._halts:
                halt()
            return True

    def close(self) -> BaseException | None:
        """Mark the call as ended, and refuse further requests.

        Returns the accepted reason, or None.
        """
        with self._lock:
            self._is_closed = True
            return self._reason

    @property
    def reason(self) -> BaseException | None:
        """The reason for the waiting caller; None without a request."""
        return self._reason

    def raise_if_set(self) -> None:
        """Raise the reason if there is one."""
        if self._reason is not None:
            raise self._reason

    @contextlib.contextmanager
    def calling(self, halt: Callable[[], object]) -> Iterator[None]:
        """Call a function once if the end is requested during this block.

        Args:
            halt: makes a run return soon. It is called in the requesting thread, or at once if the
                end was already requested, and never after the block.
        """
        with self._lock:
            self._halts.append(halt)
            if self._reason is not None:
                halt()
        try:
            yield
        finally:
            # The lock waits for a started call, which may use objects of the block.
            with self._lock:
                self._halts.remove(halt)


@dataclass(eq=False)
class Turn:
    """A caller's use of a backend.

    Attributes:
        is_alone: whether no other turn starts during this one, except a passing one, see `Policy`.
            A run may then use every thread. It may change between runs.
        stop: stop of the caller.
        pixels: padded pixels of the caller's picture; 0 to forbid passing.
        only: whether it starts only when nothing else runs.
        shares: whether others are expected during this turn: it is not alone then.
    """

    is_alone: bool = True
    stop: Stop = field(default_factory=Stop)
    pixels: int = 0
    only: bool = False
    shares: bool = False
    _takes_all: bool = field(default=False, repr=False)
    _has_begun: bool = field(default=False, repr=False)
    _passes: bool = field(default=False, repr=False)
    _callers: int = field(default=1, repr=False)
    _thread: int = field(default_factory=threading.get_ident, repr=False)
    _granted: threading.Event = field(default_factory=threading.Event, repr=False)


@dataclass(frozen=True)
class Policy:
    """Rules for concurrent turns.

    Attributes:
        lanes: concurrent turns.
        prefers_alone: whether a caller is alone and has every thread unless there are enough
            callers to fill the lanes.
        lets_pass: whether one small turn may start beside a large one, in addition to the lanes.
    """

    lanes: int = 1
    prefers_alone: bool = False
    lets_pass: bool = False

    def is_alone(self, turn: Turn, running: Sequence[Turn], callers: int = 1) -> bool | None:
        """`Turn.is_alone` of a turn that starts now, with so many callers; None if it must wait."""
        if not running:
            shares = turn.shares or fills(callers, self.lanes)
            return turn.only or self.lanes == 1 or (self.prefers_alone and not shares)
        is_full = len(running) >= self.lanes or any(other.is_alone for other in running)
        if turn.only or (is_full and not self.may_pass(turn, running)):
            return None
        return False

    def may_pass(self, turn: Turn, running: Sequence[Turn]) -> bool:
        """Whether a turn is small relative to every running one, and none has passed them."""
        least = max(LARGE_PIXELS + 1, TIMES_LARGER * turn.pixels)
        return (
            self.lets_pass
            and turn.pixels > 0
            and all(other.pixels >= least and not other._passes for other in running)
        )


class Turns:
    """Turns in the order of requests, as many at a time as a policy allows, or one with all lanes.

    Args:
        lanes: as `Policy.lanes`.
        prefers_alone: as `Policy.prefers_alone`.
        lets_pass: as `Policy.lets_pass`.
    """

    def __init__(
        self, lanes: int = 1, *, prefers_alone: bool = False, lets_pass: bool = False
    ) -> None:
        self._policy = Policy(lanes, prefers_alone, lets_pass)
        self._lock = threading.Lock()
        self._running: list[Turn] = []
        self._waiting: list[Turn] = []

    @contextlib.contextmanager
    def one(
        self,
        stop: Stop | None = None,
        pixels: int = 0,
        *,
        only: bool = False,
        shares: bool = False,
    ) -> Iterator[Turn]:
        """Take a turn.

        Args:
            stop: ends the wait too.
            pixels: as `Turn.pixels`.
            only: as `Turn.only`.
            shares: as `Turn.shares`.

        Raises:
            UsageError: this thread already has a turn and would wait for itself.
            BaseException: the reason of `stop`.
        """
        turn = Turn(stop=stop or Stop(), pixels=pixels, only=only, shares=shares)
        try:
            self._take(turn)
            yield turn
        finally:
            self._leave(turn)

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Take every turn: no other caller runs or is between two runs."""
        turn = Turn(only=True, _takes_all=True)
        try:
            self._take(turn)
            yield
        finally:
            self._leave(turn)

    def follow(self, policy: Policy) -> None:
        """Start later turns by another policy. Current turns stay."""
        with self._lock:
            self._policy = policy
            self._grant()

    def share(self, turn: Turn) -> bool:
        """Let others start beside this turn, between two runs, or let it be alone again.

        Returns:
            Whether a caller still waits, so the turn should be released for a while.
        """
        if not self._waiting and turn.is_alone:  # read without the lock: the next check comes soon
            return False
        with self._lock:
            if self._running == [turn] and not self._waiting:
                turn.is_alone = self._policy.lanes == 1 or self._policy.prefers_alone
                return False
            if self._policy.lanes > 1:
                turn.is_alone = False
            self._grant()
            return bool(self._waiting)

    def again(self, turn: Turn, *, only: bool = False) -> None:
        """Release the turn, and take it again after all present waiters.

        Raises:
            BaseException: the reason of its `stop`.
        """
        with self._lock:
            self._running.remove(turn)
            turn.only, turn._has_begun, turn._passes = only, True, False
            turn._granted.clear()
        self._take(turn)

    def _take(self, turn: Turn) -> None:
        with self._lock:
            if any(other._thread == turn._thread for other in self._running):
                raise UsageError(
                    "a Restorer was used by the `progress` of its own call, which would wait for "
                    "itself; use it in another thread"
                )
            self._waiting.append(turn)
            # Counted now: callers that wait for each other would be alone in turn and never share,
            # because while one starts, the others have not come back. A call that gave way may be
            # alone again.
            present = len(self._waiting) + len(self._running)
            turn._callers = 1 if turn._has_begun else present
            self._grant()
        if not turn._granted.is_set():
            with turn.stop.calling(turn._granted.set):
                turn._granted.wait()
        turn.stop.raise_if_set()

    def _leave(self, turn: Turn) -> None:
        """The states in which a turn is known: running, waiting, or interrupted before either."""
        with self._lock:
            for place in (self._running, self._waiting):
                if turn in place:
                    place.remove(turn)
            self._grant()

    def _grant(self) -> None:
        """Start turns in the order of requests, as the policy allows. Called with the lock."""
        is_closing = False
        for turn in tuple(self._waiting):
            if turn._takes_all and any(other._has_begun for other in self._waiting):
                # These are between two of their runs: they finish first, and no turn starts
                # meanwhile.
                is_closing = True
                continue
            if is_closing and not turn._has_begun:
                continue
            callers = max(turn._callers, len(self._waiting))
            alone = self._policy.is_alone(turn, self._running, callers)
            if alone is not None:
                self._begin(turn, alone)
            elif turn.only and not is_closing:
                return  # otherwise others would keep starting beside each other, and this one never

    def _begin(self, turn: Turn, alone: bool) -> None:
        turn.is_alone = alone
        turn._passes = self._policy.may_pass(turn, self._running) and bool(self._running)
        self._waiting.remove(turn)
        self._running.append(turn)
        turn._granted.set()
