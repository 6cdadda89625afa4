"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP.

`docker stop`, Slurm and systemd send SIGTERM. A closing terminal sends SIGHUP. Both act like Ctrl-C
(SIGINT). Signals that are ignored at the start, as with `nohup`, stay ignored. Handlers of an
application stay too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_ENDING = [one for one in signal.Signals if one.name in ("SIGINT", "SIGTERM", "SIGHUP")]
"""The signals by name, because Windows lacks SIGHUP."""


_CANCELLED = (
    "interrupted: finishing the current image or frame; press Ctrl-C again to stop immediately"
)


class Stopped(KeyboardInterrupt):
    """A signal requested the end.

    Attributes:
        signal: the signal. A `KeyboardInterrupt` of Python means SIGINT.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal of an interruption."""
    return error.signal if isinstance(error, Stopped) else signal.SIGINT


def exit_code_of(error: KeyboardInterrupt) -> int:
    """128 plus the signal's number, as in shells: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + signal_of(error)


def stop_on_signals() -> None:
    """Make all signals raise `Stopped` in the main thread."""
    for number in _handled_by(*_FREE):
        signal.signal(number, _stop)


def begin_without_signals() -> None:
    """Until `stop_on_signals`, let all signals end the process at once: nothing needs cleanup."""
    for number in _handled_by(*_FREE):
        signal.signal(number, signal.SIG_DFL)


def end_without_signals() -> None:
    """Undo `stop_on_signals` after the cleanup: signals end the process at once."""
    for number in _handled_by(_stop):
        signal.signal(number, signal.SIG_DFL)


def stop_if_asked() -> None:
    """Raise `Stopped` if a library swallowed it: a signal may interrupt any code.

    Raises:
        Stopped: a signal arrived.
    """
    if _received:
        raise Stopped(_received[-1])


_received: list[int] = []
"""The signals received by `_stop`."""


def _stop(number: int, _: Any) -> None:
    _received.append(number)
    raise Stopped(number)


_FREE = (signal.SIG_DFL, signal.default_int_handler)
"""Set handlers of signals that are neither handled nor ignored."""


def _handled_by(*handlers: Any) -> list[signal.Signals]:
    if threading.current_thread() is not threading.main_thread():
        return []  # Python sets handlers in the main thread only
    return [number for number in _ENDING if signal.getsignal(number) in handlers]


class Cancellation(threading.Event):
    """An event set by the first signal, or by code that finds the rest useless.

    Attributes:
        signal: the first signal; None without one.
    """

    signal: signal.Signals | None = None


@contextmanager
def cancelled_by_signals(
    cancel: Cancellation,
    is_at_work: Callable[[], bool],
    tell: Callable[[str], object],
    text: str = _CANCELLED,
) -> Iterator[None]:
    """While files are restored, the first signal only sets an event and prints a message.

    A second SIGINT or SIGTERM stops immediately. SIGHUP never does, because a closing terminal
    sends it repeatedly, and systemd sends it right after SIGTERM.

    Args:
        cancel: event to set.
        is_at_work: whether there is work to finish. If not, the first signal stops immediately.
        tell: prints a message.
        text: the message at the first signal.
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
            # A handler may run during a write to the same stream, which refuses a nested write.
            with suppress(RuntimeError):
                tell(text)

    before = {number: signal.signal(number, ask) for number in _handled_by(*_FREE, _stop)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
