"""Log messages and warnings of another process, shown in the log of this one."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from queue import Empty, SimpleQueue

_TALKERS = ("maxim_deploy", "py.warnings")


class MessageQueue(logging.Handler):
    """Keeps our messages and Python's warnings until they are taken, ready to be pickled.

    Args:
        level: of messages that are kept.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
        logging.getLogger("maxim_deploy").setLevel(level)
        logging.captureWarnings(True)
        for name in _TALKERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a copy that holds text and numbers only."""
        own = copy.copy(record)
        if isinstance(own.args, tuple):
            own.args = tuple(x if isinstance(x, int | float) else str(x) for x in own.args)
        else:
            own.msg, own.args = own.getMessage(), None
        if own.exc_info:
            own.exc_text, own.exc_info = logging.Formatter().formatException(own.exc_info), None
        self._queue.put(own)

    def taken(self) -> list[logging.LogRecord]:
        """All messages since the last call, the oldest first."""
        taken = []
        try:
            while True:
                taken.append(self._queue.get_nowait())
        except Empty:
            return taken


def show(messages: Iterable[logging.LogRecord], said: set[str] | None = None) -> None:
    """Log messages of another process here, where this process would.

    Args:
        messages: as `MessageQueue.taken` returns them.
        said: texts that are not shown again; those that are shown are added.
    """
    for message in messages:
        logger = logging.getLogger(message.name)
        text = message.getMessage()
        if logger.isEnabledFor(message.levelno) and not (said and text in said):
            logger.handle(message)
            if said is not None:
                said.add(text)
