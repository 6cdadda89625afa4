"""Threads that restore what was submitted, in order; what waits can be withdrawn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from maxim_deploy.runtime.restoration import Restoration

Work = Callable[[], object]


class Workers:
    """A queue of restorations, and so many threads that take them from it.

    The threads end at `shutdown`, when this is collected, or with the process, which waits for
    what was submitted.

    Args:
        count: threads.
        name: that theirs begin with.
        mark: called in each thread as it begins.
    """

    def __init__(self, count: int, name: str, mark: Callable[[], object]) -> None:
        self._threads = ThreadPoolExecutor(count, name, mark)
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Restoration[Any], Work] = OrderedDict()

    def put(self, restoration: Restoration[Any], work: Work) -> None:
        """Do the work in a thread, after what waits already, unless it is withdrawn.

        Raises:
            RuntimeError: these threads are shut down, or the interpreter is.
        """
        with self._lock:
            self._waiting[restoration] = work
        try:
            self._threads.submit(self._do_one)
        except RuntimeError:
            self.withdraw(restoration)
            raise

    def withdraw(self, restoration: Restoration[Any]) -> bool:
        """Take it out of the queue; False if it is not there."""
        with self._lock:
            return self._waiting.pop(restoration, None) is not None

    def shutdown(self) -> None:
        """Wait for all that was put."""
        self._threads.shutdown()

    def _do_one(self) -> None:
        # For one that was withdrawn there is a call too many, which finds the queue empty.
        with self._lock:
            if not self._waiting:
                return
            _, work = self._waiting.popitem(last=False)
        work()
