"""Handle standard streams that are closed, full, broken, or cannot show a name.

stdout carries results, so a failed write is an error. stderr carries messages, so a failed write is
ignored and the work goes on.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

from maxim_deploy.errors import MaximDeployError


def open_closed_streams() -> None:
    """Open the null device in place of a closed standard stream.

    Otherwise the next opened file takes its number and receives the output of libraries.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # also if it is the same: then children inherit it
            os.set_inheritable(number, True)
            if null != number:
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def let_stdout_show_any_name() -> None:
    """Write bytes of names unchanged, and escape characters that the encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error(_ANY_NAME, _any_name)
        sys.stdout.reconfigure(errors=_ANY_NAME)


_ANY_NAME = "maxim-deploy-names"


def _any_name(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return b"".join(map(_bytes_of, characters)), error.end


def _bytes_of(character: str) -> bytes:
    # Bytes of a name that are not text are surrogates, see PEP 383.
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00])
    return character.encode("ascii", "backslashreplace")


def let_stderr_never_fail() -> None:
    """Ignore messages that cannot be written: the terminal has gone, or the disk is full."""
    # A Windows console is not a file that takes UTF-8.
    if sys.platform == "win32" or not isinstance(sys.stderr, io.TextIOWrapper):
        return
    raw = _BestEffort(2, "w", closefd=False)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), sys.stderr.encoding, "backslashreplace", line_buffering=True
    )


class _BestEffort(io.FileIO):
    def write(self, data: object, /) -> int:
        """Report to the caller that all bytes were written."""
        try:
            written = super().write(data)  # type: ignore[arg-type]  # any buffer
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written  # type: ignore[arg-type]


def stdout_error(error: OSError) -> OSError | MaximDeployError:
    """The exception for a failed write to stdout. The buffer is dropped."""
    # The interpreter would fail on the rest at exit.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return error  # the reader has left, so no message is printed
    return MaximDeployError(f"standard output | cannot be written: {error.strerror}")
