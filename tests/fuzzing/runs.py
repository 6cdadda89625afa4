"""Mutated files through a reader: what becomes of them, how long it takes, and in what memory."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.mutations import Mutation

from maxim_deploy.errors import MaximDeployError
from maxim_deploy.machine.memory import forget_peak, peak_resident_bytes, resident_bytes

MOST_SECONDS = 10.0
MOST_TIMES = 4
"""Memory that a damaged file may take, in that of the honest one."""

LEAST_BYTES = 32 * 2**20
"""Of the honest file, as far as that is compared: less is lost in what libraries keep."""

MOST_WORDS = 100_000
"""Characters of a message."""


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: of it.
        suffix: of its file's name.
        sample: makes an honest file's content, in an empty folder.
        read: reads a file as the commands do, and all that they then make of it.
        mutate: how files are damaged.
        never_raises: a cache or a record, which is passed over if it is damaged.
        is_slow: whether a file takes more than a hundredth of a second.
    """

    name: str
    suffix: str
    sample: Callable[[Path], bytes]
    read: Callable[[Path], object]
    mutate: Mutation
    never_raises: bool = False
    is_slow: bool = False


@dataclass
class Tally:
    """What became of the mutated files of one reader.

    Attributes:
        counts: "refused" and "read".
        findings: what must not be, to the numbers of the files that show it.
        slowest_s: seconds of the slowest.
        most_bytes: memory of the largest.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[int]] = field(default_factory=dict)
    slowest_s: float = 0.0
    most_bytes: int = 0

    def find(self, what: str, number: int) -> None:
        """Note a finding."""
        self.findings.setdefault(what, []).append(number)


def run(reader: Reader, folder: Path, numbers: range, seed: int = 0) -> Tally:
    """Read the mutated files of these numbers; each depends on its number and the seed alone."""
    path, tally = folder / f"file{reader.suffix}", Tally()
    content = reader.sample(folder)
    path.write_bytes(content)
    with _quiet():
        reader.read(path)  # what is imported at first use is no memory of a file
        allowed = MOST_TIMES * max(LEAST_BYTES, _measured(reader, path, Tally(), -1))
        for number in numbers:
            chance = random.Random(f"{seed} {reader.name} {number}")
            path.write_bytes(reader.mutate(content, chance))
            taken = _measured(reader, path, tally, number)
            tally.most_bytes = max(tally.most_bytes, taken)
            if taken > allowed:
                tally.find("memory", number)
    return tally


def _measured(reader: Reader, path: Path, tally: Tally, number: int) -> int:
    """The memory that reading takes, in bytes; the rest goes into the tally."""
    forget_peak()
    before, start = resident_bytes(), time.perf_counter()
    try:
        reader.read(path)
        tally.counts["read"] += 1
    except MaximDeployError as error:
        tally.counts["refused"] += 1
        if reader.never_raises:
            tally.find(_place_of(error), number)
        if len(str(error)) > MOST_WORDS:
            tally.find("long message", number)
    except Exception as error:
        tally.find(_place_of(error), number)
    seconds = time.perf_counter() - start
    tally.slowest_s = max(tally.slowest_s, seconds)
    if seconds > MOST_SECONDS:
        tally.find("time", number)
    return peak_resident_bytes() - before


def _place_of(error: Exception) -> str:
    """The type, and the last line of ours or of a library's."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = [
        one for one in traceback.extract_tb(error.__traceback__) if "maxim_deploy" in one.filename
    ]
    where = ours[-1] if ours else last
    return (
        f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:100]}"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that damaged files are full of."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
