"""Answers to the requests of an execution in Triton's python backend."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any


class Answers:
    """Sends each answer as soon as there is one, where the server can.

    The caller of a picture then does not wait for the last one of its batch, and sends its next
    request while the rest runs. A server that has senders only for decoupled models takes the
    answers at the end of an execution.

    Args:
        triton: the module `triton_python_backend_utils`.
        requests: of the execution.
    """

    def __init__(self, triton: Any, requests: Sequence[Any]) -> None:
        self._answers: list[Any] = [None] * len(requests)
        self._final: int = getattr(triton, "TRITONSERVER_RESPONSE_COMPLETE_FINAL", 1)
        self._senders: list[Any] | None = None
        with contextlib.suppress(Exception):  # the backend's own: it has no class for this
            self._senders = [request.get_response_sender() for request in requests]

    def __contains__(self, index: int) -> bool:
        return self._answers[index] is not None

    @property
    def are_sent(self) -> bool:
        """Whether each answer is sent at once, also after `execute` has returned."""
        return self._senders is not None

    def give(self, index: int, response: Any) -> None:
        """Answer a request, once. Not for several threads at a time."""
        self._answers[index] = response
        if self._senders is not None:
            self._senders[index].send(response, flags=self._final)

    def to_return(self) -> list[Any] | None:
        """What `execute` returns: None if all were sent."""
        return self._answers if self._senders is None else None
