"""Measured speeds of a network on this machine: a file of JSON lines in the cache.

`speeds/KEY.jsonl` has a line per measurement. KEY is a hash of all that times depend on
(`identity_of`), so another processor, library or bundle has another file. Torn and unknown lines
are skipped and measured again. Without a cache folder, measurements last as long as the process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from maxim_deploy._files import make_folder
from maxim_deploy._records import append_lines, read_intact_lines
from maxim_deploy._version import __version__
from maxim_deploy.errors import MissingDependencyError, UsageError
from maxim_deploy.machine.cache import cache_folder
from maxim_deploy.machine.facts import machine_facts
from maxim_deploy.runtime.backend import Backend

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speed:
    """One measurement of a network.

    Attributes:
        height: padded height of each image.
        width: padded width of each image.
        lanes: runs at a time.
        threads: total threads of all lanes.
        is_shared: whether other processes used the processors meanwhile.
        seconds: wall time per image. With several at a time, it is the total time over their
            number.
        spinning: whether threads waited in a loop.
    """

    height: int
    width: int
    lanes: int
    threads: int
    is_shared: bool
    seconds: float
    spinning: bool = True

    def __post_init__(self) -> None:
        numbers = (self.height, self.width, self.lanes, self.threads)
        if any(type(number) is not int or number < 1 for number in numbers):
            raise ValueError(f"expected numbers from 1 on, not {numbers}")
        if not (isinstance(self.seconds, float) and 0 < self.seconds < math.inf):
            raise ValueError(f"expected seconds, not {self.seconds!r}")

    @property
    def pixels(self) -> int:
        """Padded pixels of an image."""
        return self.height * self.width


@dataclass
class Speeds:
    """Measurements of a network on this machine. `known` is read on first use.

    Attributes:
        identity: all that times depend on, ready for JSON.
    """

    identity: Mapping[str, Any]
    _new: list[Speed] = field(default_factory=list)

    @property
    def known(self) -> Sequence[Speed]:
        """All measurements, the oldest first."""
        return [*self._stored, *self._new]

    def add(self, speeds: Iterable[Speed]) -> None:
        """Store measurements; without a writable cache folder, in this process only."""
        added = list(speeds)
        self._new += added
        lines = [{"identity": self.identity, "at": round(time.time()), **asdict(s)} for s in added]
        try:
            path = self._path()
            make_folder(path.parent)
            append_lines(path, lines, follow=False)
        except (MissingDependencyError, UsageError, OSError) as error:
            _log.info("measured times are not kept: %s", error)

    @cached_property
    def _stored(self) -> list[Speed]:
        with suppress(MissingDependencyError, UsageError, OSError):
            return read_intact_lines(self._path(), self._taken, follow=False)
        return []

    def _path(self) -> Path:
        text = json.dumps(self.identity, sort_keys=True)
        return cache_folder() / "speeds" / f"{hashlib.sha256(text.encode()).hexdigest()}.jsonl"

    def _taken(self, line: Any) -> Speed:
        line = dict(line)
        del line["at"]
        if line.pop("identity") != self.identity:
            raise ValueError("measured on something else")
        return Speed(**line)


def identity_of(backend: Backend, bundle: str | None) -> dict[str, Any]:
    """All that times of a network depend on, besides size, lanes and threads.

    Args:
        backend: the backend.
        bundle: SHA-256 of the bundle's manifest, which contains the hashes of all files.
    """
    machine = machine_facts()
    return {
        "maxim_deploy": __version__,
        "bundle": bundle,
        "backend": backend.name,
        "library": backend.library,
        "precision": backend.precision,
        "io": backend.io,
        "device": backend.device,
        # Not the memory, which differs between boots.
        **{name: machine[name] for name in ("cpu", "cpu_id", "cpus", "os")},
    }
