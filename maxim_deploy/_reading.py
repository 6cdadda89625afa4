"""Safe reading of untrusted files: regular files only, of bounded size and bounded nesting.

Opening a pipe waits for its other end, and reading a device never ends. A recursive parser fails at
some depth of brackets, and so does code that walks its result. Here each case raises `OSError` or
`ValueError`, and callers add the file's name.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20
"""The largest text file that is read. The records of ten thousand measurements have 30 MB."""

_MOST_DEPTH = 50
"""The deepest nesting of brackets. Our own files have 10."""


NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""Flag of `os.open` that refuses a symbolic link. Windows lacks it, and there an ordinary user
cannot plant links.
"""

AT_ONCE = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open` that does not wait for the writer of a pipe."""


def opens_no_link(path: str, flags: int) -> int:
    """An `opener` of `open` that refuses symbolic links, for files that users do not name."""
    return _opened(path, flags | NO_FOLLOW)


def _opened(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK):
            raise
        raise OSError(error.errno, "is a symbolic link: remove it", path) from error


def require_regular(path: Path) -> os.stat_result:
    """The status of a regular file. A symbolic link is followed.

    Raises:
        OSError: there is none, or it is a folder, a pipe or a device.
    """
    return _regular(path, path.stat())


@contextmanager
def open_regular(path: Path, *, follow: bool = True) -> Iterator[BufferedReader]:
    """A regular file, open for reading in binary until the block ends.

    Raises:
        OSError: there is none, or it is a folder, a pipe or a device, or a symbolic link that is
            not to be followed.
    """
    # Without waiting: opening a pipe that has no writer would block for ever.
    links = 0 if follow else NO_FOLLOW
    with open(
        path, "rb", opener=lambda name, flags: _opened(name, flags | AT_ONCE | links)
    ) as file:
        # Checked after opening. Between a check by name and the opening, the name may pass to
        # another file.
        _regular(path, os.fstat(file.fileno()))
        yield file


def _regular(path: Path, status: os.stat_result) -> os.stat_result:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, not a regular file", str(path))
    return status


def read_bounded(path: Path, most: int = MOST_BYTES, *, follow: bool = True) -> bytes:
    """The content of a regular file that has at most `most` bytes.

    Raises:
        OSError: it is not a regular file, is larger, cannot be read, or is a symbolic link that
            must not be followed.
    """
    with open_regular(path, follow=follow) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", str(path))
    return content


def load_json(text: str | bytes, **options: Any) -> Any:
    """`json.loads` with its options, raising only `ValueError`.

    Raises:
        ValueError: it is not JSON, or its brackets nest too deeply.
    """
    try:
        value = json.loads(text, **options)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    return check_depth(value)


def check_depth(value: Any) -> Any:
    """Return a value of lists and dicts, unless it nests too deeply.

    Raises:
        ValueError: it does.
    """
    # Level by level: recursion here would hit the limit that this check protects.
    level = [value]
    for _ in range(_MOST_DEPTH):
        level = [child for one in level for child in _children(one)]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"it nests more than {_MOST_DEPTH} levels deep"


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
