"""Exchange the names of two files or folders in one step, where the system can do that.

Python has no function for this, so `renameat2` of Linux and `renamex_np` of macOS are called.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # sys/stdio.h of macOS


def exchange(first: Path, second: Path) -> None:
    """Exchange two names. Both names exist at every moment.

    Raises:
        OSError: one of them does not exist, or the system or file system cannot exchange names.
    """
    call = _system_call()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(first), None, str(second))
    if call(os.fsencode(first), os.fsencode(second)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(first), None, str(second))


def _system_call() -> Callable[[bytes, bytes], int] | None:
    """The function that exchanges two names: returns 0, or sets `errno`. None on other systems."""
    if sys.platform not in ("linux", "darwin"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    # C libraries before glibc 2.28 and musl 1.2.6 have no `renameat2`.
    name = "renameat2" if sys.platform == "linux" else "renamex_np"
    function = getattr(library, name, None)
    if function is None:
        return None
    function.restype = ctypes.c_int
    if sys.platform == "darwin":
        return lambda a, b: int(function(a, b, ctypes.c_uint(_RENAME_SWAP)))
    return lambda a, b: int(function(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_RENAME_EXCHANGE)))
