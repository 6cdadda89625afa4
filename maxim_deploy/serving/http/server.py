"""A socket, and the event loop that serves it until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from maxim_deploy.errors import UsageError

_SENDING_S = 65
"""After the last picture is restored, for clients that take their answers slowly."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket with an address, which does not listen yet: clients are refused until it does.

    Args:
        host: a name or an address, of IPv4 or IPv6.
        port: 0 for any that is free.

    Raises:
        UsageError: there is no such host here, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host!r} | is no address of this machine: {error}") from error
    bound = socket.socket(family, kind, protocol)
    try:
        # The port is free again as soon as this is closed. On Windows it is anyway, and the option
        # would let another process take it.
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"{url_of(host, port)} | cannot be served: {error.strerror} | "
            "pass another --port, or 0 for any that is free"
        ) from error
    return bound


def url_of(host: str, port: int) -> str:
    """The address of a service for people."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """Serves an application; the signals of the process are the caller's.

    Args:
        application: to serve.
        timeout_s: of a request.
    """

    def __init__(self, application: ASGIApp, timeout_s: float) -> None:
        config = uvicorn.Config(
            application,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            # Each request has a record of ours. Of broken ones, uvicorn would say a line each.
            log_level=logging.CRITICAL,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(timeout_s) + _SENDING_S,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    def stop(self) -> None:
        """Take no more requests and return from `run` once those under way are answered.

        May be called in any thread, and in a handler of a signal.
        """
        self.should_exit = True
