"""Whose turn it is to run the network, and what ends the turn early."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from maxim_deploy.errors import UsageError

LARGE_PIXELS = 512 * 512
"""Padded pixels of a run that is worth passing. Shorter ones are waited for, as tiles are."""

TIMES_LARGER = 4
"""A run passes only one of at least so many times its pixels, which it slows down little."""


class Stop:
    """A request to end a call early, made at most once and from any thread."""

    def __init__(self) -> None:
        # Reentrant: what is called when it is set may ask whether it is set.
        self._lock = threading.RLock()
        self._reason: BaseException | None = None
        self._halts: list[Callable[[], object]] = []
        self._is_closed = False

    def set(self, reason: BaseException) -> bool:
        """Ask for the end; whatever runs now is told in this thread.

        Returns:
            Whether this reason counts: False after another one, or once the call has ended.
        """
        with self._lock:
            if self._reason is not None or self._is_closed:
                return False
            self._reason = reason
            for halt in self._halts:
                halt()
            return True

    def close(self) -> BaseException | None:
        """The call has ended: nobody can ask any more. Returns the reason of who did, or None."""
        with self._lock:
            self._is_closed = True
            return self._reason

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


@dataclass(eq=False)
class Turn:
    """One caller's use of a backend.

    Attributes:
        is_alone: no other turn begins while this one lasts, so that a run may use every thread;
            but for one that passes, see `Policy`. It may change from one run to the next.
        stop: the caller's.
        pixels: padded pixels of the caller's picture; 0 if nobody may pass it.
        only: it begins when nobody else runs.
    """

    is_alone: bool = True
    stop: Stop = field(default_factory=Stop)
    pixels: int = 0
    only: bool = False
    _takes_all: bool = field(default=False, repr=False)
    _has_begun: bool = field(default=False, repr=False)
    _passes: bool = field(default=False, repr=False)
    _thread: int = field(default_factory=threading.get_ident, repr=False)
    _granted: threading.Event = field(default_factory=threading.Event, repr=False)


@dataclass(frozen=True)
class Policy:
    """Who may run beside whom.

    Attributes:
        lanes: turns at a time.
        prefers_alone: a caller who finds nobody running or waiting is alone, and has every thread;
            several share them, side by side.
        lets_pass: one small turn at a time may begin beside a large one, above the lanes.
    """

    lanes: int = 1
    prefers_alone: bool = False
    lets_pass: bool = False

    def is_alone(self, turn: Turn, running: Sequence[Turn], others_wait: bool) -> bool | None:
        """`Turn.is_alone` of a turn that begins now; None if it must wait."""
        if not running:
            return turn.only or self.lanes == 1 or (self.prefers_alone and not others_wait)
        is_full = len(running) >= self.lanes or any(other.is_alone for other in running)
        if turn.only or (is_full and not self.may_pass(turn, running)):
            return None
        return False

    def may_pass(self, turn: Turn, running: Sequence[Turn]) -> bool:
        """Whether a turn is small beside every one that runs, and nobody else has passed these."""
        least = max(LARGE_PIXELS + 1, TIMES_LARGER * turn.pixels)
        return (
            self.lets_pass
            and turn.pixels > 0
            and all(other.pixels >= least and not other._passes for other in running)
        )


class Turns:
    """Turns in the order of asking, as many at a time as a policy allows; or one with all of them.

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
        self, stop: Stop | None = None, pixels: int = 0, *, only: bool = False
    ) -> Iterator[Turn]:
        """Have a turn.

        Args:
            stop: ends the waiting, too.
            pixels: as `Turn.pixels`.
            only: as `Turn.only`.

        Raises:
            UsageError: this thread has a turn already, and would wait for itself.
            BaseException: the reason of `stop`.
        """
        turn = Turn(stop=stop or Stop(), pixels=pixels, only=only)
        try:
            self._take(turn)
            yield turn
        finally:
            self._leave(turn)

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Have every turn: nobody else is running, or between two runs of a turn."""
        turn = Turn(only=True, _takes_all=True)
        try:
            self._take(turn)
            yield
        finally:
            self._leave(turn)

    def follow(self, policy: Policy) -> None:
        """Let turns begin by another policy from now on; those under way stay."""
        with self._lock:
            self._policy = policy
            self._grant()

    def share(self, turn: Turn) -> bool:
        """Between two runs: let others begin beside this turn.

        Returns:
            Whether somebody still waits, so that the turn should be given up for a while.
        """
        if not self._waiting:  # looked at without the lock: the next time comes soon
            return False
        with self._lock:
            if self._policy.lanes > 1:
                turn.is_alone = False
            self._grant()
            return bool(self._waiting)

    def again(self, turn: Turn, *, only: bool = False) -> None:
        """Give the turn up, and have it again behind all who wait now.

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
            self._grant()
        if not turn._granted.is_set():
            with turn.stop.calling(turn._granted.set):
                turn._granted.wait()
        turn.stop.raise_if_set()

    def _leave(self, turn: Turn) -> None:
        """Whether it runs, waits, or an interruption came before it did either."""
        with self._lock:
            for place in (self._running, self._waiting):
                if turn in place:
                    place.remove(turn)
            self._grant()

    def _grant(self) -> None:
        """Let those begin who may, in the order of asking; called with the lock."""
        is_closing = False
        for turn in tuple(self._waiting):
            if turn._takes_all and any(other._has_begun for other in self._waiting):
                # Between two runs of theirs: they finish first, and nobody begins meanwhile.
                is_closing = True
                continue
            if is_closing and not turn._has_begun:
                continue
            alone = self._policy.is_alone(turn, self._running, len(self._waiting) > 1)
            if alone is not None:
                self._begin(turn, alone)
            elif turn.only and not is_closing:
                return  # or others would go on beginning beside each other, and this one never

    def _begin(self, turn: Turn, alone: bool) -> None:
        turn.is_alone = alone
        turn._passes = self._policy.may_pass(turn, self._running) and bool(self._running)
        self._waiting.remove(turn)
        self._running.append(turn)
        turn._granted.set()
