"""The answer with a picture, sent no faster than the client takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Send

from maxim_deploy.errors import printable
from maxim_deploy.serving.http.formats import MEDIA_TYPES

_PIECE = 256 * 2**10
"""Bytes that are handed over at a time. A server keeps what a slow client has not taken yet, so an
answer in one piece would stay in memory, uncounted."""

STALL_S = 60.0
"""A client that takes nothing for so long is given up."""

_MOST_WARNINGS, _MOST_TEXT = 16, 200
"""Of headers that carry warnings, and of characters of each. Proxies take 8 kB of headers."""


@dataclass(frozen=True)
class Answer:
    """A restored picture as it goes to the client.

    Attributes:
        content: of a file.
        image_format: such as "PNG".
        warnings: each becomes a header `Maxim-Warning`.
        times: seconds of each step, for the header `Server-Timing`.
    """

    content: bytes
    image_format: str
    warnings: list[str]
    times: Mapping[str, float]

    def headers(self) -> list[tuple[bytes, bytes]]:
        """As ASGI has them."""
        times = ", ".join(f"{step};dur={1000 * took:.1f}" for step, took in self.times.items())
        return [
            (b"content-type", MEDIA_TYPES[self.image_format].encode()),
            (b"content-length", str(len(self.content)).encode()),
            (b"server-timing", times.encode()),
            *((b"maxim-warning", _in_a_header(text)) for text in self.warnings[:_MOST_WARNINGS]),
        ]

    async def send(self, send: Send) -> None:
        """Send it.

        Raises:
            TimeoutError: the client has stopped taking it.
        """
        await send({"type": "http.response.start", "status": 200, "headers": self.headers()})
        size = len(self.content)
        for start in range(0, size, _PIECE):
            end = start + _PIECE
            async with asyncio.timeout(STALL_S):
                await send(
                    {
                        "type": "http.response.body",
                        "body": self.content[start:end],
                        "more_body": end < size,
                    }
                )


def _in_a_header(text: str) -> bytes:
    return printable(text)[:_MOST_TEXT].encode("ascii", "backslashreplace")
