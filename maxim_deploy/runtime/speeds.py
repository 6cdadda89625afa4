"""How fast a network runs on this machine, as it was measured: a file of JSON lines in the cache.

`speeds/KEY.jsonl` has a line for each measurement. KEY is a hash of everything that times depend on
(`identity_of`): with another processor, library or bundle there is another file, so that nobody
reads what has become wrong. Torn and unknown lines are passed over, and what they said is measured
again. Without a cache folder measurements last as long as the process.
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
        height: padded, of each image.
        width: likewise.
        lanes: runs at a time.
        threads: of all of them together.
        is_shared: whether others used the processors meanwhile.
        seconds: wall time per image: of several at a time, the time of all over their number.
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
        """Padded, of an image."""
        return self.height * self.width


@dataclass
class Speeds:
    """What is known of one network on this machine; `known` is read at its first use.

    Attributes:
        identity: everything that times depend on, ready for JSON.
    """

    identity: Mapping[str, Any]
    _new: list[Speed] = field(default_factory=list)

    @property
    def known(self) -> Sequence[Speed]:
        """All measurements, the oldest first."""
        return [*self._stored, *self._new]

    def add(self, speeds: Iterable[Speed]) -> None:
        """Keep measurements; in this process only where there is no cache folder to write to."""
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
    """What times of a network depend on, besides size, lanes and threads.

    Args:
        backend: that runs it.
        bundle: SHA-256 of the bundle's manifest, which has the hashes of all of its files.
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
        # Not the memory, which differs from boot to boot.
        **{name: machine[name] for name in ("cpu", "cpu_id", "cpus", "os")},
    }
