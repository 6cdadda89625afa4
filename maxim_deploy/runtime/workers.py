"""Threads that restore submitted pictures in order. Waiting pictures can be withdrawn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from maxim_deploy.runtime.restoration import Restoration

Work = Callable[[], object]


class Workers:
    """A queue of restorations with worker threads.

    The threads end at `shutdown`, when this object is collected, or with the process, which waits
    for submitted pictures.

    Args:
        count: threads.
        name: beginning of the threads' names.
        mark: called in each thread at its start.
    """

    def __init__(self, count: int, name: str, mark: Callable[[], object]) -> None:
        self._threads = ThreadPoolExecutor(count, name, mark)
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Restoration[Any], Work] = OrderedDict()

    def put(self, restoration: Restoration[Any], work: Work) -> None:
        """Queue work for a thread. It can be withdrawn until it starts.

        Raises:
            RuntimeError: the threads or the interpreter are shut down.
        """
        with self._lock:
            self._waiting[restoration] = work
        try:
            self._threads.submit(self._do_one)
        except RuntimeError:
            self.withdraw(restoration)
            raise

    def withdraw(self, restoration: Restoration[Any]) -> bool:
        """Remove work from the queue; False if it is not there."""
        with self._lock:
            return self._waiting.pop(restoration, None) is not None

    def shutdown(self) -> None:
        """Wait for all queued work, and end the threads."""
        self._threads.shutdown()

    def _do_one(self) -> None:
        # Withdrawn work leaves an extra call, which finds the queue empty.
        with self._lock:
            if not self._waiting:
                return
            # Drop the restoration: frames of its exception would form a cycle with it.
            work = self._waiting.popitem(last=False)[1]
        work()
        del work
