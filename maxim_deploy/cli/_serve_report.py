"""Output of `maxim-deploy serve`, and its end by a signal."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from maxim_deploy.cli import shell
from maxim_deploy.cli._signals import Cancellation
from maxim_deploy.errors import MaximDeployError
from maxim_deploy.serving.http.record import Record

STOPPING = "stopping: answering the current pictures; press Ctrl-C again to stop immediately"

_log = logging.getLogger(__name__)


class Ending(Cancellation):
    """Stops a server when a signal sets it."""

    def __init__(self, stop: Callable[[], object]) -> None:
        super().__init__()
        self._stop = stop

    def set(self) -> None:
        """Set the event, and stop the server."""
        super().set()
        self._stop()


class Report:
    """Prints the address of the service and the outcome of each request.

    Attributes:
        counts: requests by outcome.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._is_heard = True
        self.counts: Counter[str] = Counter()

    def listening(self, url: str, about: str) -> None:
        """Report that the service accepts requests."""
        if self._as_json:
            self._emit({"event": "listening", "url": url})
        else:
            shell.emit(url)
        shell.say(f"{about}\nPOST pictures to {url}/restore; Ctrl-C stops")

    def request(self, record: Record) -> None:
        """Report the end of a request."""
        self.counts[record.outcome] += 1
        if self._as_json:
            self._emit({"event": "request", **record.to_json()})
        took = f"{record.outcome} ({record.status}) in {record.seconds:.3f} s"
        _log.info("%s%s", took, f": {record.error}" if record.error else "")

    def stopped(self) -> None:
        """Report that the service has stopped."""
        if self._as_json:
            self._emit({"event": "stopped", "requests": dict(self.counts)})
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        shell.say(f"stopped after {counts or 'no request'}")

    def _emit(self, event: dict[str, Any]) -> None:
        if not self._is_heard:
            return
        try:
            shell.emit(json.dumps(event))
        # Clients still get their answers after the log ends.
        except (MaximDeployError, BrokenPipeError) as error:
            self._is_heard = False
            _log.warning("requests are no longer logged: %s", error)
