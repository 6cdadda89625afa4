"""Pictures of successive executions of Triton's python backend in the lanes of a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.runtime import Restorer
from maxim_deploy.runtime.turns import fills

ALONE_S = 0.1
"""Longest wait for pictures that leave lanes idle: less than a person notices."""

Done = Callable[[NDArray[np.uint8] | BaseException], object]
"""Called with the restored pictures of a request, or with the reason why there are none."""


class Flow:
    """Restores the pictures of requests one by one, and keeps all lanes busy.

    An execution can return while its last pictures run. The server then prepares the next one
    before all lanes are idle.

    Args:
        restorer: on a CPU, with its number of lanes chosen.
    """

    def __init__(self, restorer: Restorer) -> None:
        self._restorer, self._lanes = restorer, restorer.info.lanes
        self._pending = 0
        # Also serialises `done`: the server's objects are not known to be thread-safe.
        self._changed = threading.Condition()

    def add(self, stack: NDArray[np.uint8], done: Done) -> None:
        """Queue the pictures `[N, H, W, 3]` of a request.

        Args:
            stack: copied, because the server may reuse its memory after the execution.
            done: called once, in any thread, for one request at a time.

        Raises:
            BackendError: the restorer is closed. `done` is not called.
        """
        futures: list[Future[Any]] = [self._restorer.submit(picture) for picture in stack.copy()]
        rest = set(futures)

        def one_done(future: Future[Any]) -> None:
            with self._changed:
                rest.remove(future)
                try:
                    if not rest:
                        done(_together(futures))
                        # Break the cycle: a future keeps this function, and would keep its result.
                        futures.clear()
                finally:
                    self._pending -= 1
                    self._changed.notify_all()

        with self._changed:
            self._pending += len(futures)
        for future in futures:
            future.add_done_callback(one_done)

    def wait_for_room(self) -> None:
        """Wait until a lane is free for the pictures of another execution."""
        with self._changed:
            if not fills(self._pending, self._lanes):
                # So few take turns, each with all threads. Requests that come meanwhile can share
                # an execution, but a picture of many runs lets others start between two of them.
                self._changed.wait_for(lambda: self._pending == 0, ALONE_S)
            self._changed.wait_for(lambda: self._pending < self._lanes)


def _together(futures: list[Future[Any]]) -> NDArray[np.uint8] | BaseException:
    for future in futures:
        if error := future.exception():
            return error
    try:
        return np.stack([future.result() for future in futures])
    except MemoryError as error:
        return error
