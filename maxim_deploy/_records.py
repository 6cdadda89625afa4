"""Records in JSON lines: files that several processes may append to, and any may be killed at.

A process that is killed, or a disk that is full, leaves a line too few or a torn one. The next
writer ends a torn line. A reader refuses it (`read_lines`) or passes over it (`read_intact_lines`).
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from maxim_deploy._files import sync_folder
from maxim_deploy._reading import load_json, opens_no_link, read_bounded
from maxim_deploy.errors import UsageError

T = TypeVar("T")

_FOREIGN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What `load_json` and a caller's `take` raise for a line that is none of theirs."""

_MOST_BYTES = 2**30
"""Files that are only appended to grow for years; a line of a run has 300 bytes."""


def append_lines(
    path: Path, records: Iterable[Any], *, durable: bool = False, follow: bool = True
) -> None:
    """Add a line per record to a file, which is made if need be, also for no record.

    Args:
        path: the file, in a folder that exists.
        records: ready for JSON.
        durable: whether the lines are on the disk when this returns.
        follow: whether the file may be a symbolic link: one that a user names may.

    Raises:
        OSError: they cannot be written.
    """
    text = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    # Without a buffer this is one write, which the system puts whole behind what others append.
    with open(path, "a+b", buffering=0, opener=None if follow else opens_no_link) as file:
        if text and file.tell():
            file.seek(-1, os.SEEK_END)
            # The line that a killed process has torn would spoil the first of these.
            text = text if file.read(1) == b"\n" else b"\n" + text
        if file.write(text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(file.fileno())
            sync_folder(path.parent)  # which may not have had the file's name


def read_lines(path: Path, what: str, take: Callable[[Any], T]) -> list[T]:
    """What `take` makes of each line; empty lines do not count.

    Args:
        path: the file.
        what: what is in it, for a message.
        take: gets the content of a line, and raises `UsageError` or an error of Python's for a
            content that it does not know.

    Raises:
        UsageError: the file cannot be read, or a line is not such a record; the message has its
            number.
    """
    try:
        lines = read_bounded(path, _MOST_BYTES).splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {what} from {str(path)!r}: {error}") from error
    taken = []
    for number, line in enumerate(lines, start=1):
        try:
            taken += [take(load_json(line))] if line else []
        except _FOREIGN as error:
            reason = error if isinstance(error, UsageError) else f"not a record: {error}"
            raise UsageError(f"{str(path)!r}, line {number}: {reason}") from error
    return taken


def read_intact_lines(path: Path, take: Callable[[Any], T], *, follow: bool = True) -> list[T]:
    """As `read_lines`, without the lines that are torn or unknown; none if there is no file.

    Raises:
        OSError: the file cannot be read, or is a symbolic link that is not to be followed.
    """
    try:
        lines = read_bounded(path, _MOST_BYTES, follow=follow).splitlines()
    except FileNotFoundError:
        return []
    taken = []
    for line in lines:
        try:
            taken.append(take(load_json(line)))
        except _FOREIGN:
            continue
    return taken
