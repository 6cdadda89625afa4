"""Divides files between several runs.

Each run decides alone, by a hash of the file's path below the folder that was named. So runs on
different machines need no common list, no order and no server. A file that is added later moves no
other file to another run.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from maxim_deploy.errors import UsageError

_MOST = 1_000_000
"""Most shards. More are a mistake: each shard writes its own record into every folder."""


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the files.

    Attributes:
        index: index of this part, from 0.
        count: number of all parts.

    Raises:
        UsageError: the index is not below the count.

    Example:
        >>> from maxim_deploy.jobs.shards import Shard
        >>> [shard.takes("photos/a.jpg") for shard in (Shard(0, 2), Shard(1, 2))]
        [False, True]
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count <= _MOST:
            raise UsageError(
                f"shard {self.index}/{self.count} | expected I/N with I from 0 to N-1 and N at "
                f"most {_MOST:,}, such as 0/8 to 7/8"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from the text "I/N".

        Raises:
            UsageError: the text has another form, or the index is not below the count.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if not found:
            raise UsageError(f"shard {text!r} | expected I/N, such as 0/8 to 7/8")
        return cls(int(found[1]), int(found[2]))

    def takes(self, path: str | Path) -> bool:
        """Whether a file belongs to this part.

        Args:
            path: path of the file below the folder that was named, or its bare name.
        """
        # The file system's own bytes. Windows separators become slashes, so that all systems agree.
        name = os.fsencode(Path(path).as_posix())
        return int.from_bytes(hashlib.sha256(name).digest()[:8]) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"
