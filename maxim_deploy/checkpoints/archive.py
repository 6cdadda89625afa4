"""Archives of arrays, `.npz`, with checks before decompression.

A zip of some kilobytes may hold gigabytes. So the directory is measured before it is read, each
array's header is read before its data, and the data must have the length in the header.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from maxim_deploy._reading import require_regular
from maxim_deploy.errors import shown

T = TypeVar("T")

_MOST_DIRECTORY = 16 * 2**20
"""Most bytes of a zip's directory. M-3 with two sets of optimiser state has 2 MB."""

_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_TAIL = 22 + 65535 + 20 + 56
"""Bytes at the end of a zip that contain both records. A comment may follow the first."""


@dataclass(frozen=True)
class Header:
    """The header of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Size of the array's data."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open zip of arrays. Close it, or use it as a context manager.

    Attributes:
        names: members of the zip by name of the array.

    Args:
        path: the file.

    Raises:
        OSError: it is not a regular file, or cannot be read.
        ValueError: it is not a zip, is damaged, or its directory is too large.
    """

    def __init__(self, path: Path) -> None:
        require_regular(path)
        # Before `ZipFile`, which turns a directory of any size into objects.
        with path.open("rb") as file:
            _check_directory(file)
        self._zip = _plain_errors(lambda: zipfile.ZipFile(path))
        self.names = {
            member.filename.removesuffix(".npy"): member
            for member in self.members
            if member.filename.endswith(".npy")
        }

    @property
    def members(self) -> list[zipfile.ZipInfo]:
        """All members of the zip."""
        return self._zip.infolist()

    def header(self, name: str) -> Header:
        """The header of an array. Its data are not decompressed.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged, or no plain array.
        """
        return self._use(name, _header)

    def array(self, name: str) -> npt.NDArray[Any]:
        """The array. Nothing is unpickled.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged, or no plain array.
        """
        # Checked here too, because callers need not ask for the header first.
        self.header(name)
        return self._use(name, _array)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def _use(self, name: str, use: Callable[[IO[bytes], int], T]) -> T:
        member = self.names[name]

        def used() -> T:
            with self._zip.open(member) as file:
                return use(file, member.file_size)

        return _plain_errors(used)


def _plain_errors(use: Callable[[], T]) -> T:
    try:
        return use()
    except (OSError, MemoryError):
        raise
    # Damaged data make the libraries raise nearly any type, from zlib to Python's tokenizer.
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _header(file: IO[bytes], size: int) -> Header:
    """Read the header of a member of `size` bytes. The file is at the data afterwards."""
    version = np.lib.format.read_magic(file)
    if version not in _READ_HEADER:
        raise ValueError(f"format {version} of its header is unknown")
    shape, _, dtype = _READ_HEADER[version](file)
    header = Header(shape, dtype)
    # Reading objects would unpickle them, and a pickle runs code.
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(side < 0 for side in shape) or not dtype.itemsize:
        raise ValueError(f"an array of shape {shown(shape)} and type {dtype} is not possible")
    # Before NumPy allocates: the shape is only a claim, but the length of the member is a fact.
    if header.bytes != (there := size - file.tell()):
        raise ValueError(
            f"its shape {shown(shape)} takes {shown(header.bytes)} bytes, but there are {there:,}"
        )
    return header


def _array(file: IO[bytes], _size: int) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


_READ_HEADER: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _check_directory(file: BinaryIO) -> None:
    """Raise an error for a zip whose directory would take too much memory.

    Raises:
        ValueError: the directory is larger than `_MOST_DIRECTORY`.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    stated = [
        int.from_bytes(tail[at + begin : at + end], "little")
        for mark, begin, end in ((_END, 12, 16), (_END_64, 40, 48))
        if (at := tail.rfind(mark)) >= 0
    ]
    if max(stated, default=0) > _MOST_DIRECTORY:
        raise ValueError(f"its directory has more than {_MOST_DIRECTORY:,} bytes")
