"""Requests for restored pictures, from the first byte to the last; an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from maxim_deploy.imaging.picture import Pixels
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.runtime import Restorer
from maxim_deploy.serving.http.answer import Answer
from maxim_deploy.serving.http.body import check_headers, read_body
from maxim_deploy.serving.http.coding import Order, content_from, order_from
from maxim_deploy.serving.http.door import Door
from maxim_deploy.serving.http.formats import format_asked_for
from maxim_deploy.serving.http.health import Health
from maxim_deploy.serving.http.leaving import unless_gone
from maxim_deploy.serving.http.limits import Limits
from maxim_deploy.serving.http.metrics import Metrics
from maxim_deploy.serving.http.record import Record
from maxim_deploy.serving.http.refusals import Refusal, refusal_from

T = TypeVar("T")

_MOST_CODERS = 8
"""Threads that decode and encode; one per processor up to here."""

_INTERNAL = "internal error | the service's log has the reason"

_logger = logging.getLogger(__name__)


class Service:
    """Restores what clients send. Call it as an ASGI application for each request.

    Attributes:
        limits: of requests.
        info: what the restorer runs.
        door: how full it is.
        metrics: for Prometheus.
        health: for probes.

    Args:
        restorer: stays the caller's. It runs what the service submits, in order.
        limits: as above.
        tell: is called at the end of each request, in the event loop: it must not block.
    """

    def __init__(
        self, restorer: Restorer, limits: Limits, tell: Callable[[Record], object] = lambda _: None
    ) -> None:
        self._restorer, self._tell = restorer, tell
        self.limits, self.info = limits, restorer.info
        coders = min(usable_processors(), _MOST_CODERS)
        self._coders = ThreadPoolExecutor(coders, "maxim-deploy-coder")
        # Each lane has a picture, and each coder one that comes in or goes out.
        self.door = Door(self.info.lanes, limits.queue, self.info.lanes + coders)
        self.metrics = Metrics(self.info, self.door)
        self.health = Health(restorer, limits.timeout_s, lambda: self.door.inside == 0)

    def close(self) -> None:
        """End the threads. Call it when no request is under way."""
        self._coders.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with a picture, or with a text that says why not."""
        record = Record()
        try:
            refusal = await self._answer_or_refusal(Request(scope, receive), record, send)
            if refusal is not None:
                record.outcome, record.status = refusal.outcome, refusal.status
                record.error = str(refusal)
                again = {"Retry-After": str(self.door.retry_after_s())}
                headers = again if refusal.status == 503 else {}
                response = JSONResponse({"error": record.error}, refusal.status, headers)
                await response(scope, receive, send)
        finally:
            record.end()
            self.metrics.count(record)
            self._tell(record)

    async def _answer_or_refusal(
        self, request: Request, record: Record, send: Send
    ) -> Refusal | None:
        try:
            with self.door.enter():
                answer = await self._answer(request, record)
                await answer.send(send)
            record.outcome, record.status = "restored", 200
        except (ClientDisconnect, TimeoutError):  # it is gone, or takes nothing any more
            record.outcome, record.status = "client_gone", 0
        except Refusal as refusal:
            return refusal
        except Exception:
            _logger.exception("this is a bug in maxim-deploy; please report it")
            return Refusal(500, _INTERNAL)
        return None

    async def _answer(self, request: Request, record: Record) -> Answer:
        deadline = asyncio.get_running_loop().time() + self.limits.timeout_s
        image_format = format_asked_for(request.query_params, request.headers.get("accept", ""))
        check_headers(request.headers, self.limits)
        content = await read_body(request, self.limits, deadline)
        record.bytes_in = len(content)
        record.lap("read")
        work = self._restored(content, image_format, deadline, record)
        answer = await unless_gone(request, work)
        record.bytes_out = len(answer.content)
        return answer

    async def _restored(
        self, content: bytes, image_format: str, deadline: float, record: Record
    ) -> Answer:
        async with self.door.table(deadline):
            record.lap("wait")
            most = self.limits.most_pixels
            order = await self._in_thread(order_from, content, image_format, most)
            record.height, record.width = order.size
            record.lap("decode")
            restored = await self._in_network(order, deadline)
            record.lap("network")
            self.door.took(record.times["network"])
            result = await self._in_thread(content_from, order, restored)
            record.lap("encode")
        return Answer(result, image_format, order.warnings, record.times)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._coders, function, *arguments)
        except MemoryError as error:
            raise refusal_from(error) from error

    async def _in_network(self, order: Order, deadline: float) -> Pixels:
        left = deadline - asyncio.get_running_loop().time()
        try:
            future = self._restorer.submit(order.pixels, timeout=left)
            # If the client goes, this task is cancelled and the future with it, which ends the run.
            restored: Pixels = await asyncio.wrap_future(future)
        except Exception as error:
            self.health.note_failed()
            raise refusal_from(error) from error
        self.health.note_restored()
        return restored
