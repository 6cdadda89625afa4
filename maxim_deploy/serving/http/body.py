"""The body of a request: refused by its headers, or read up to a limit."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping

from starlette.requests import Request

from maxim_deploy.serving.http.limits import Limits
from maxim_deploy.serving.http.refusals import Refusal

_HOW = "send the picture itself as the body, as curl --data-binary @photo.jpg does"


def check_headers(headers: Mapping[str, str], limits: Limits) -> None:
    """Refuse what shows before the body. A client that waits for `100 Continue` then sends none.

    Args:
        headers: with names in lower case.
        limits: of the service.

    Raises:
        Refusal: 415 or 413.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith("multipart/"):
        raise Refusal(415, f"the body is a form | {_HOW}", "bad_request")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, f"the body is compressed | {_HOW}", "bad_request")
    # The server has refused a length that is not a number.
    if int(headers.get("content-length", 0)) > limits.most_bytes:
        raise _too_long(limits)


async def read_body(request: Request, limits: Limits, deadline: float) -> bytes:
    """The whole body.

    Args:
        request: whose body nothing has read.
        limits: of the service.
        deadline: of the event loop's clock.

    Raises:
        Refusal: 400, 408 or 413.
        ClientDisconnect: the client went in the middle.
    """
    body = io.BytesIO()
    try:
        async with asyncio.timeout_at(deadline):
            async for chunk in request.stream():
                if body.tell() + len(chunk) > limits.most_bytes:
                    raise _too_long(limits)
                body.write(chunk)
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {limits.timeout_s:g} s") from None
    if not body.tell():
        raise Refusal(400, f"the body is empty | {_HOW}", "bad_request")
    return body.getvalue()


def _too_long(limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"the body has more than the {limits.most_bytes:,} bytes that this service takes | "
        "send a smaller file",
    )
