"""How many requests are under way, and how many of their pictures lie decoded in memory."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from maxim_deploy.serving.http.refusals import Refusal


class Door:
    """Admits requests; used in one event loop.

    A request is counted from its first byte to the last of its answer. So what waits is bounded
    before any of it is read: at most that many bodies, and `tables` decoded pictures.

    Args:
        lanes: how many pictures the network runs at a time.
        queue: requests that may be under way beside those.
        tables: pictures that are decoded, restored or encoded at a time. The others wait as bytes,
            which are ten times smaller.
    """

    def __init__(self, lanes: int, queue: int, tables: int) -> None:
        self._lanes, self._places = lanes, lanes + queue
        self._tables = asyncio.Semaphore(tables)
        self._inside = self._at_tables = 0
        self._usual_s = 1.0

    @property
    def inside(self) -> int:
        """Requests under way."""
        return self._inside

    @property
    def waiting(self) -> int:
        """Of them, those whose body is being read or waits to be decoded."""
        return self._inside - self._at_tables

    def retry_after_s(self) -> int:
        """Whole seconds in which a place is likely to become free."""
        return max(1, math.ceil(self._usual_s / self._lanes))

    def took(self, seconds: float) -> None:
        """A picture took so long; recent ones count most."""
        self._usual_s += (seconds - self._usual_s) / 8

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be under way for the block.

        Raises:
            Refusal: 503, there is no place.
        """
        if self._inside >= self._places:
            raise Refusal(
                503,
                f"busy | {self._inside} pictures are under way, and this service takes "
                f"{self._places} | try again in {self.retry_after_s()} s",
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def table(self, deadline: float) -> AsyncIterator[None]:
        """Have pixels in memory for the block.

        Args:
            deadline: of the event loop's clock.

        Raises:
            Refusal: 504, there was no table until then.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._tables.acquire()
        except TimeoutError:
            raise Refusal(504, "the picture waited for its turn until its time was up") from None
        self._at_tables += 1
        try:
            yield
        finally:
            self._at_tables -= 1
            self._tables.release()
