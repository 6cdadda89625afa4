"""Signals that end a command: Ctrl-C, and what containers, batch systems and terminals send.

SIGTERM comes from `docker stop`, Slurm and systemd, SIGHUP from a terminal that closes. Both do
what Ctrl-C (SIGINT) does. A signal that is ignored when the command begins, as with `nohup`, stays
ignored, and an application's own handler stays.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_ENDING = [one for one in signal.Signals if one.name in ("SIGINT", "SIGTERM", "SIGHUP")]
"""By name: Windows has no SIGHUP."""


_CANCELLED = (
    "interrupted: the current image, or frame of a video, will be finished; "
    "Ctrl-C again stops at once"
)


class Stopped(KeyboardInterrupt):
    """A signal asked for the end.

    Attributes:
        signal: which one; a `KeyboardInterrupt` of Python's own means SIGINT.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal behind an interruption."""
    return error.signal if isinstance(error, Stopped) else signal.SIGINT


def exit_code_of(error: KeyboardInterrupt) -> int:
    """128 and the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + signal_of(error)


def stop_on_signals() -> None:
    """From now on all of them raise `Stopped` in the main thread."""
    for number in _handled_by(*_FREE):
        signal.signal(number, _stop)


def begin_without_signals() -> None:
    """Until `stop_on_signals` all of them end the process at once: there is nothing to clean up."""
    for number in _handled_by(*_FREE):
        signal.signal(number, signal.SIG_DFL)


def end_without_signals() -> None:
    """The opposite of `stop_on_signals`: all is cleaned up, and the process ends at once."""
    for number in _handled_by(_stop):
        signal.signal(number, signal.SIG_DFL)


def stop_if_asked() -> None:
    """Raise what a library has swallowed: the code that a signal interrupts may be anybody's.

    Raises:
        Stopped: a signal has come.
    """
    if _received:
        raise Stopped(_received[-1])


_received: list[int] = []
"""The signals that `_stop` got."""


def _stop(number: int, _: Any) -> None:
    _received.append(number)
    raise Stopped(number)


_FREE = (signal.SIG_DFL, signal.default_int_handler)
"""Handlers of signals that nobody handles or ignores."""


def _handled_by(*handlers: Any) -> list[signal.Signals]:
    if threading.current_thread() is not threading.main_thread():
        return []  # Python sets handlers in the main thread only
    return [number for number in _ENDING if signal.getsignal(number) in handlers]


class Cancellation(threading.Event):
    """Is set by the first signal, or by whoever finds that the rest is of no use.

    Attributes:
        signal: the one that came first; None as long as there was none.
    """

    signal: signal.Signals | None = None


@contextmanager
def cancelled_by_signals(
    cancel: Cancellation,
    is_at_work: Callable[[], bool],
    tell: Callable[[str], object],
    text: str = _CANCELLED,
) -> Iterator[None]:
    """While files are restored, the first signal only sets the event, and says so.

    A second SIGINT or SIGTERM stops at once. SIGHUP never does: a terminal that closes sends it
    more than once, and systemd right behind SIGTERM.

    Args:
        cancel: to set.
        is_at_work: whether there is something to finish; if not, the first one stops at once.
        tell: shows a line of talk.
        text: that line, at the first signal.
    """
    hang_up = getattr(signal, "SIGHUP", None)

    def ask(number: int, _: Any) -> None:
        is_first = cancel.signal in (None, hang_up)
        if not is_at_work() or not (is_first or number == hang_up):
            raise Stopped(number)
        if cancel.signal is None or number != hang_up:
            cancel.signal = signal.Signals(number)
        if not cancel.is_set():
            cancel.set()
            # A handler may run in the middle of a write to the same stream, which refuses another.
            with suppress(RuntimeError):
                tell(text)

    before = {number: signal.signal(number, ask) for number in _handled_by(*_FREE, _stop)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
