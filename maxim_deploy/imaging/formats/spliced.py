"""A file without some of its parts, which a library must not see."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from typing import BinaryIO

Piece = bytes | tuple[int, int]
"""Own bytes, or the begin and end of a part of the file."""


class Spliced(io.RawIOBase):
    """Pieces of a file, concatenated as a file. Data are copied only when read."""

    def __init__(self, file: BinaryIO, pieces: list[Piece]) -> None:
        self._file, self._pieces = file, [piece for piece in pieces if _length(piece)]
        self._starts = [0, *accumulate(map(_length, self._pieces))]
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; returns it. It may lie beyond the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The current position."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """As for any file. Fewer bytes are returned only at the end."""
        left = self._starts[-1] - self._at
        left = max(0, left if size is None or size < 0 else min(size, left))
        parts = []
        while left:
            index = bisect_right(self._starts, self._at) - 1
            part = self._part(self._pieces[index], self._at - self._starts[index], left)
            if not part:
                break  # the file was truncated meanwhile
            parts.append(part)
            self._at += len(part)
            left -= len(part)
        return b"".join(parts)

    def _part(self, piece: Piece, skip: int, size: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[skip : skip + size]
        self._file.seek(piece[0] + skip)
        return self._file.read(min(size, piece[1] - piece[0] - skip))


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
