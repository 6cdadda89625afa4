"""Records in JSON lines. Several processes may append, and each may be killed at any time.

A killed process or a full disk loses a line or leaves a torn one. The next writer ends a torn line.
`read_lines` refuses it, and `read_intact_lines` skips it.
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
"""What `load_json` and a caller's `take` raise for a line that they do not recognise."""

_MOST_BYTES = 2**30
"""The largest file of records. Files grow for years; a line of a run has 300 bytes."""


def append_lines(
    path: Path, records: Iterable[Any], *, durable: bool = False, follow: bool = True
) -> None:
    """Append a line per record to a file. The file is made if needed, even without records.

    Args:
        path: the file, in a folder that exists.
        records: values that JSON can hold.
        durable: whether the lines are on the disk when this returns.
        follow: whether the file may be a symbolic link. A file that a user names may be one.

    Raises:
        OSError: they cannot be written.
    """
    text = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    # Unbuffered, this is one write, and the system appends it whole even beside other writers.
    with open(path, "a+b", buffering=0, opener=None if follow else opens_no_link) as file:
        if text and file.tell():
            file.seek(-1, os.SEEK_END)
            # A line torn by a killed process would otherwise merge with the first of these.
            text = text if file.read(1) == b"\n" else b"\n" + text
        if file.write(text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(file.fileno())
            sync_folder(path.parent)  # which may lack the file's name


def read_lines(path: Path, what: str, take: Callable[[Any], T]) -> list[T]:
    """The result of `take` for each line. Empty lines are skipped.

    Args:
        path: the file.
        what: what the file holds, for messages.
        take: gets the content of a line. For unknown content it raises `UsageError` or a built-in
            error.

    Raises:
        UsageError: the file cannot be read, or a line is not a record; the message has its number.
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
    """Read a file of JSON lines, without torn and unknown lines; empty if there is no file.

    Raises:
        OSError: the file cannot be read, or is a symbolic link that is not to be followed.
    """
    try:
        content = read_bounded(path, _MOST_BYTES, follow=follow)
    except FileNotFoundError:
        return []
    return intact_lines(content, take)


def intact_lines(content: bytes, take: Callable[[Any], T]) -> list[T]:
    """The result of `take` for each line. Torn and unknown lines are skipped.

    Args:
        content: content of a file of records.
        take: as in `read_lines`.
    """
    taken = []
    for line in content.splitlines():
        try:
            taken.append(take(load_json(line)))
        except _FOREIGN:
            continue
    return taken
