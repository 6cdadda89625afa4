"""Why a request gets no picture: the status, a word for the metrics, and the text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from maxim_deploy.errors import (
    DeadlineError,
    ImageError,
    ImageTooLargeError,
    MaximDeployError,
    QueueFullError,
    UsageError,
)

Outcome = Literal[
    "restored", "bad_request", "bad_picture", "too_large", "busy", "late", "client_gone", "failed"
]
"""How a request ended; the label of a metric, so that the list stays short."""

_OUTCOMES: dict[int, Outcome] = {
    400: "bad_picture",
    406: "bad_request",
    408: "late",
    413: "too_large",
    415: "bad_picture",
    422: "bad_picture",
    503: "busy",
    504: "late",
}

_logger = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 - an answer, as an `HTTPException` is
    """A request ends with an error.

    Attributes:
        status: of HTTP.
        outcome: for the metrics and the log.
    """

    def __init__(self, status: int, text: str, outcome: Outcome | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.outcome: Outcome = outcome or _OUTCOMES.get(status, "failed")


@contextmanager
def refused_with(status: int) -> Iterator[None]:
    """Answer an `ImageError` of the block with this status and its text, which names no file."""
    try:
        yield
    except ImageError as error:
        raise Refusal(status, f"picture | {error}") from error


NETWORK_FAILED = "the network failed on this picture | the service's log has the reason"
NO_MEMORY = "not enough memory for this picture now | try again later, or send a smaller one"


def refusal_from(error: BaseException) -> Refusal:
    """What a client is told of an error of the network.

    Texts of libraries may have paths in them. They go to the log, and the client gets ours.
    """
    if isinstance(error, DeadlineError | TimeoutError):
        return Refusal(504, str(error) or "the picture was not restored in time")
    if isinstance(error, QueueFullError):
        return Refusal(503, str(error))
    # Before the next one: it is a `MemoryError` and a `UsageError` as well.
    if isinstance(error, ImageTooLargeError):
        return Refusal(413, f"picture | {error}")
    # Of a run that could not be made smaller, the lack of memory is the cause.
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        _logger.warning("not enough memory for a picture: %s", error)
        return Refusal(503, NO_MEMORY)
    if isinstance(error, UsageError):
        return Refusal(422, f"picture | {error}")
    is_ours = isinstance(error, MaximDeployError)
    _logger.error("the network failed on a picture: %s", error, exc_info=None if is_ours else error)
    return Refusal(500, NETWORK_FAILED)
