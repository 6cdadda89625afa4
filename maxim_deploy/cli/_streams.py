"""The standard streams of a command: closed, full, broken, or unable to show a name.

stdout carries results: what cannot be written there is an error. stderr carries talk: what nobody
can take is lost, and the work goes on.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

from maxim_deploy.errors import MaximDeployError


def open_closed_streams() -> None:
    """Open the null device where a standard stream is closed.

    Otherwise the next file that is opened takes its number, and gets what libraries print.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # also where it is the same: children inherit it then
            os.set_inheritable(number, True)
            if null != number:
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def let_stdout_show_any_name() -> None:
    """Write bytes of a name as they came, and escape characters that the encoding does not have."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error(_ANY_NAME, _any_name)
        sys.stdout.reconfigure(errors=_ANY_NAME)


_ANY_NAME = "maxim-deploy-names"


def _any_name(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return b"".join(map(_bytes_of, characters)), error.end


def _bytes_of(character: str) -> bytes:
    # A byte of a name that is not text is such a surrogate, see PEP 383.
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00])
    return character.encode("ascii", "backslashreplace")


def let_stderr_never_fail() -> None:
    """Lose talk that cannot be written: the terminal hung up, the disk is full, the reader left."""
    # A console of Windows is no file that takes UTF-8.
    if sys.platform == "win32" or not isinstance(sys.stderr, io.TextIOWrapper):
        return
    raw = _BestEffort(2, "w", closefd=False)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), sys.stderr.encoding, "backslashreplace", line_buffering=True
    )


class _BestEffort(io.FileIO):
    def write(self, data: object, /) -> int:
        """All of it, as far as the caller knows."""
        try:
            written = super().write(data)  # type: ignore[arg-type]  # any buffer
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written  # type: ignore[arg-type]


def stdout_error(error: OSError) -> OSError | MaximDeployError:
    """What to raise where stdout has refused a line; what it still holds is dropped."""
    # The interpreter would fail over the rest at its end.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return error  # its reader has left, and wants to hear nothing
    return MaximDeployError(f"standard output | cannot be written: {error.strerror}")
