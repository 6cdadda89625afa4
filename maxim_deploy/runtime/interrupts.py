"""Let Ctrl-C end calls of the main thread."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from maxim_deploy.runtime.turns import Stop

POLL_S = 0.2
"""Seconds between checks for signals, which do not wake the main thread on Windows."""

T = TypeVar("T")


class Interruptible:
    """Runs the main thread's work in another thread, so the main thread can handle signals.

    A running library does not notice signals, and Python calls handlers only in the main thread
    after the library returns. Here their exceptions, such as KeyboardInterrupt, arrive while the
    main thread waits, and never between taking and releasing a turn.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None

    def do(self, work: Callable[[], T], stop: Stop) -> T:
        """Run work that ends soon after `stop` is set, and wait for it.

        Raises:
            BaseException: an exception of the work, or of a signal's handler after the work has
                ended.
        """
        if threading.current_thread() is not threading.main_thread():
            return work()
        future: Future[T] | None = None
        try:
            # Settings of NumPy and other libraries belong to the caller's context.
            future = self._started().submit(contextvars.copy_context().run, work)
            return _result(future)
        except RuntimeError:
            if future is None:  # the interpreter is exiting and starts no work in threads
                return work()
            raise
        except BaseException as error:
            if not (future and future.done()):
                stop.set(error)
            while future and not future.done():
                with suppress(BaseException):  # another Ctrl-C: the work is ending anyway
                    _result(future)
            raise
        finally:
            # The future has the exception, and its traceback has this frame: break the cycle.
            future = None

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread:
            thread.shutdown()

    def _started(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "maxim-deploy-main")
            return self._thread


def _result(future: Future[T]) -> T:
    try:
        while True:
            try:
                return future.result(POLL_S)
            except TimeoutError:
                if future.done():  # the exception of the work
                    raise
    finally:
        del future  # the same
