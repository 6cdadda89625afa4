"""Whether the network still restores a picture; a dead one is seen, and a busy one is not dead."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.runtime import Restorer

State = Literal["ok", "busy", "failing"]

FRESH_S = 5.0
"""For so long a restored picture proves that the network works, whose picture it ever was."""

PATIENCE_S = 0.8
"""A probe waits so long for the health picture. Kubernetes gives up after one second."""

ALONE_S = 30.0
"""Time of the health picture while nothing else is in the network."""

MOST_LEVELS = 2
"""By which the health picture may differ from the one at the start. Kernels that are chosen anew
round differently, by one level at most."""

_logger = logging.getLogger(__name__)


class Health:
    """Restores a small picture when asked, unless the network has just shown that it works.

    Args:
        restorer: to watch.
        timeout_s: of the health picture while others are in the network.
        is_idle: whether no other picture is under way.
    """

    def __init__(
        self, restorer: Restorer, timeout_s: float, is_idle: Callable[[], bool] = lambda: True
    ) -> None:
        self._restorer, self._timeout_s, self._is_idle = restorer, timeout_s, is_idle
        self._picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        self._expected: NDArray[Any] = self._picture
        self._well_at = -np.inf
        self._fault: str | None = None
        self._check: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Restore the picture for the first time; blocks. It raises what the network raises."""
        self._expected = self._restorer(self._picture)
        self._well_at = time.monotonic()

    def note_restored(self) -> None:
        """A client's picture has been restored."""
        self._well_at = time.monotonic()

    def note_failed(self) -> None:
        """A client's picture has failed, which may or may not be the network's fault: look."""
        self._well_at = -np.inf

    async def state(self) -> State:
        """What to tell a probe; it takes `PATIENCE_S` at most.

        All probes of a time share one health picture, however many there are.
        """
        if self._fault is None and time.monotonic() - self._well_at < FRESH_S:
            return "ok"
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._look())
        # It goes on after this wait, so that the next probe finds its result.
        await asyncio.wait({self._check}, timeout=PATIENCE_S)
        if self._fault is not None:
            return "failing"
        return "ok" if self._check.done() else "busy"

    async def _look(self) -> None:
        # Pictures ahead of it may take their whole time, and it waits for its turn like them.
        limit_s = ALONE_S if self._is_idle() else self._timeout_s
        try:
            restored = await asyncio.wrap_future(
                self._restorer.submit(self._picture, timeout=limit_s)
            )
        except Exception as error:
            self._fault = str(error) or type(error).__name__
        else:
            levels = int(np.abs(restored.astype(int) - self._expected.astype(int)).max())
            self._fault = None
            if levels > MOST_LEVELS:
                self._fault = f"the health picture is {levels} levels off its first result"
        if self._fault is None:
            self._well_at = time.monotonic()
        else:
            _logger.error("the network does not restore the health picture: %s", self._fault)
