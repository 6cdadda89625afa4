"""What the log says of a request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from maxim_deploy.serving.http.refusals import Outcome


@dataclass
class Record:
    """One request; begins when it is made.

    Attributes:
        outcome: how it ended.
        status: of the answer; 0 if the client had gone.
        error: the text of the answer, unless it is a picture.
        height: of the picture in pixels; None if it was not decoded.
        width: in pixels as well.
        bytes_in: of the body.
        bytes_out: of the answer's picture.
        seconds: from the arrival to the end of the answer.
        times: seconds of each step, such as "decode", in the order in which they were done.
    """

    outcome: Outcome = "failed"
    status: int = 500
    error: str | None = None
    height: int | None = None
    width: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    times: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """A step has ended: it took the time since the one before."""
        now = time.perf_counter()
        self.times[step], self._last = now - self._last, now

    def end(self) -> None:
        """The request has ended."""
        self.seconds = time.perf_counter() - self._began

    def to_json(self) -> dict[str, Any]:
        """What a line of `maxim-deploy serve --json` holds."""
        rounded = {name: round(seconds, 6) for name, seconds in self.times.items()}
        public = {name: value for name, value in vars(self).items() if name[0] != "_"}
        return {**public, "seconds": round(self.seconds, 6), "times": rounded}
