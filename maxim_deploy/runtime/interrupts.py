"""Calls of the main thread that Ctrl-C can end."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from maxim_deploy.runtime.turns import Stop

POLL_S = 0.2
"""Seconds after which the main thread looks for signals: on Windows they do not wake it."""

T = TypeVar("T")


class Interruptible:
    """Does the main thread's work in another one, so that a signal finds it waiting in Python.

    A library does not notice signals while it runs, and Python calls their handlers in the main
    thread only, once that is back. What they raise there, such as KeyboardInterrupt, comes while
    it waits, and never between the taking of a turn and its giving back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None

    def do(self, work: Callable[[], T], stop: Stop) -> T:
        """Do work that ends soon after `stop` is set, and wait for it.

        Raises:
            BaseException: what the work raises; or what a signal's handler does, after the work has
                ended for it.
        """
        if threading.current_thread() is not threading.main_thread():
            return work()
        future: Future[T] | None = None
        try:
            # The settings of NumPy and others are of the caller's context.
            future = self._started().submit(contextvars.copy_context().run, work)
            return _result(future)
        except RuntimeError:
            if future is None:  # the interpreter is ending, and starts no work in threads
                return work()
            raise
        except BaseException as error:
            stop.set(error)
            while future and not future.done():
                with suppress(BaseException):  # another Ctrl-C: the end is near anyway
                    _result(future)
            raise

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
    while True:
        try:
            return future.result(POLL_S)
        except TimeoutError:
            if future.done():  # it is the work's own
                raise
