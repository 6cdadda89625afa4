"""Let Ctrl-C end calls of the main thread."""

from __future__ import annotations

import contextvars
import sys
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

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
        self._jobs: SimpleQueue[_Job[Any] | None] | None = None
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], T], stop: Stop) -> T:
        """Run work that ends soon after `stop` is set, and wait for it.

        Raises:
            BaseException: an exception of the work, or of a signal's handler after the work has
                ended.
        """
        if threading.current_thread() is not threading.main_thread():
            return work()
        try:
            jobs = self._started()
        except RuntimeError:  # the interpreter is exiting and starts no threads
            return work()
        job = _Job(work)
        try:
            jobs.put(job)
            job.wait()
        except BaseException as error:
            # Handlers run where a call begins and where a loop goes back, so another Ctrl-C may
            # come before the `try` in `end`, or between two turns of its loop.
            try:
                job.end(stop, error)
            except BaseException:
                job.end(stop, error)
            raise
        return job.result()

    def close(self) -> None:
        """End the thread."""
        jobs, thread, self._jobs, self._thread = self._jobs, self._thread, None, None
        if jobs and thread:
            jobs.put(None)
            thread.join()

    def _started(self) -> SimpleQueue[_Job[Any] | None]:
        if sys.is_finalizing():
            raise RuntimeError("threads have ended")
        if self._jobs is None:
            jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
            # Not joined at exit: `do` outlasts the work, so the thread only waits by then.
            self._thread = threading.Thread(
                target=_take, args=(jobs,), name="maxim-deploy-main", daemon=True
            )
            self._thread.start()
            weakref.finalize(self, jobs.put, None).atexit = False
            self._jobs = jobs
        return self._jobs


def _take(jobs: SimpleQueue[_Job[Any] | None]) -> None:
    while job := jobs.get():
        job.run()
        del job  # it has the caller's picture


class _Job(Generic[T]):
    """Work in another thread.

    It uses no locks of Python code, such as those of Condition and Future: a handler's exception
    can leave them locked for ever. Calls of the interpreter's own objects are whole.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        # Settings of NumPy and other libraries belong to the caller's context.
        self._work: Callable[[], T] | None = work
        self._context = contextvars.copy_context()
        self._owner: dict[str, str] = {}
        self._is_over = False
        self._ending = threading.Lock()
        self._ending.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless its caller was interrupted before."""
        if self._owner.setdefault("owner", "thread") == "thread" and self._work:
            try:
                self._value = self._context.run(self._work)
            except BaseException as error:
                self._error = error
        self._is_over = True
        self._ending.release()

    def wait(self) -> None:
        """Wait for the end of the work."""
        while not self._is_over:
            self._ending.acquire(timeout=POLL_S)

    def end(self, stop: Stop, error: BaseException) -> None:
        """Stop the work and outlast it, however often Ctrl-C is pressed meanwhile."""
        while True:
            try:
                if self._owner.setdefault("owner", "caller") == "thread" and not self._is_over:
                    stop.set(error)
                    self.wait()
                # The exception has this job in its traceback: no cycles.
                self._work = self._value = self._error = None
                return
            # Another Ctrl-C: the work is ending anyway. `suppress` would be more code to interrupt.
            except BaseException:  # noqa: S112
                continue

    def result(self) -> T:
        """What the finished work returned; raises what it raised."""
        error, self._work, self._error = self._error, None, None
        try:
            if error:
                raise error
            return cast(T, self._value)
        finally:
            del error  # the same
