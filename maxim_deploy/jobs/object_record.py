"""Records the finished results below a prefix of a store, in objects of JSON lines.

A store cannot append to an object. So each run writes its own objects,
`.maxim-run/SHARD.RUN.K.jsonl`. Whenever a result has been stored, the run replaces its last object
by one with another line. Results that are stored during a write share the next write. After
`_MOST_LINES` lines the run begins another object. So every reported result is recorded, and a
resumed run reads few objects.

A line has the fields of `record`. The "sha256" of an input is the digest of the version that its
store reports, and each output has its version in place of a digest. So nothing is downloaded to
find out which results are finished.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from pathlib import Path
from typing import Any, Protocol

from maxim_deploy._reading import MOST_BYTES
from maxim_deploy._records import intact_lines
from maxim_deploy.errors import StoreError
from maxim_deploy.jobs.record import Fingerprint, ResumeRecord, checked_line
from maxim_deploy.jobs.shards import Shard
from maxim_deploy.jobs.stores import StoredObject

_FOLDER = ".maxim-run"

_MOST_LINES = 500
"""Lines of an object: about 150 kB, which a slow run writes again with each result."""


class ObjectRecords:
    """The records below one prefix. It reads the records of all runs and writes its own.

    Any number of threads may use it.

    Args:
        root: the prefix above the results.
        shard: shard of this run; None for all files.
    """

    def __init__(self, root: StoredObject, shard: Shard | None) -> None:
        self._root = root
        self._name = f"{shard or 'all'}.{uuid.uuid4().hex[:12]}"
        self._number, self._lines = 0, list[str]()
        self._added = self._stored = 0
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._found: dict[str, list[dict[str, Any]]] | None = None
        self._versions: dict[str, str | None] | None = None

    def name_of(self, one: StoredObject) -> str:
        """An object's key below the prefix, as in the lines of a record."""
        return one.key[len(self._root.key.rstrip("/")) + 1 :]

    def check_writable(self) -> None:
        """Check that objects can be written, before the network is loaded.

        Raises:
            StoreError: they cannot be written.
        """
        probe = self._root.below(f"{_FOLDER}/{self._name}.probe")
        probe.store.write(probe, b"")
        try:
            probe.store.remove(probe)
        except StoreError:  # some permissions allow writing but not removing
            return

    def add(self, line: dict[str, Any]) -> None:
        """Record a result; the record is stored when this returns.

        Raises:
            StoreError: it cannot be written.
        """
        with self._lock:
            self._lines.append(f"{json.dumps(line)}\n")
            self._added += 1
            mine = self._added
        # One write at a time. Lines that are added during a write share the next one.
        with self._writing:
            with self._lock:
                if self._stored >= mine:
                    return
                lines, added = [*self._lines], self._added
            own = self._root.below(f"{_FOLDER}/{self._name}.{self._number}.jsonl")
            own.store.write(own, "".join(lines).encode())
            with self._lock:
                self._stored = added
                if len(lines) >= _MOST_LINES:
                    self._lines, self._number = self._lines[len(lines) :], self._number + 1

    def lines_of(self, name: str) -> list[dict[str, Any]]:
        """The lines of all runs about a result.

        Raises:
            StoreError: the records cannot be read.
        """
        if self._found is None:
            found: dict[str, list[dict[str, Any]]] = {}
            for line in self._read_all():
                found.setdefault(next(iter(line["outputs"])), []).append(line)
            self._found = found
        return self._found.get(name, [])

    def version_of(self, name: str) -> str | None:
        """The current version of a result; None if it is absent or the store reports no version.

        Raises:
            StoreError: the results cannot be listed.
        """
        if self._versions is None:
            objects = self._root.store.objects_below(self._root, recursive=True)
            self._versions = {self.name_of(one): one.version for one in objects}
        return self._versions.get(name)

    def _read_all(self) -> list[dict[str, Any]]:
        store = self._root.store
        objects = store.objects_below(self._root.below(_FOLDER), recursive=False)
        records = [one for one in objects if one.name.endswith(".jsonl")]
        for one in records:
            # Another program may have written it, and reading it would fill the memory.
            if (one.size or 0) > MOST_BYTES:
                raise StoreError(
                    f"record '{one}' | {one.size:,} bytes | expected at most {MOST_BYTES:,} | "
                    "remove it"
                )
        contents = store.read(records)
        return [line for content in contents for line in intact_lines(content, checked_line)]


class StandIns(Protocol):
    """Maps the temporary files of a plan to their objects."""

    records: ObjectRecords | None
    """Records of results that are objects; None if results are files."""

    def object_of(self, path: Path) -> StoredObject | None:
        """The object that a temporary file stands for; None for any other file."""

    def remember(self, line: dict[str, Any], outputs: list[Path]) -> None:
        """Keep a line to record once its outputs are stored."""


class CarriedRecord(ResumeRecord):
    """A record of files, some of which are temporary files in place of objects.

    Args:
        settings: everything that a result depends on besides its input, ready for JSON.
        shard: the shard that this run restores; None for all files.
        stand_ins: maps temporary files to objects.
    """

    def __init__(self, settings: dict[str, Any], shard: Shard | None, stand_ins: StandIns) -> None:
        super().__init__(settings, shard)
        self._stand_ins = stand_ins

    def fingerprint(self, source: Path) -> Fingerprint | None:
        """As `ResumeRecord.fingerprint`; None for an object whose store reports no version."""
        one = self._stand_ins.object_of(source)
        if one is None:
            return super().fingerprint(source)
        if one.version is None:
            return None
        version = hashlib.sha256(one.version.encode()).hexdigest()
        return Fingerprint(str(one), one.size or 0, version)

    def note(self, fingerprint: Fingerprint, outputs: list[Path]) -> None:
        """As `ResumeRecord.note`; the line of an object is recorded once the object is stored."""
        if self._stand_ins.object_of(outputs[0]) is None:
            super().note(fingerprint, outputs)
        else:
            self._stand_ins.remember(self._line(fingerprint, {}), outputs)

    def names(self, outputs: list[Path]) -> bool:
        """As `ResumeRecord.names`; for objects it compares versions too."""
        if self._stand_ins.object_of(outputs[0]) is None:
            return super().names(outputs)
        return any(self._are_whole(line, outputs) for line in self._lines_of(outputs))

    def _lines_of(self, outputs: list[Path]) -> list[dict[str, Any]]:
        records, names = self._stand_ins.records, self._names(outputs)
        if records is None or not names:
            return super()._lines_of(outputs)
        lines = records.lines_of(names[0])
        return [x for x in lines if self._is_ours(x, set(names))]

    def _are_whole(self, line: dict[str, Any], outputs: list[Path]) -> bool:
        records, names = self._stand_ins.records, self._names(outputs)
        if records is None or not names:
            return super()._are_whole(line, outputs)
        versions = {name: records.version_of(name) for name in names}
        return None not in versions.values() and versions == line["outputs"]

    def _still_fits(self, recorded: Fingerprint, source: Path) -> bool:
        if self._stand_ins.object_of(source) is None:
            return super()._still_fits(recorded, source)
        return recorded == self.fingerprint(source)

    def _names(self, outputs: list[Path]) -> list[str]:
        """The names of output objects in the record; empty for files."""
        objects = [self._stand_ins.object_of(path) for path in outputs]
        records = self._stand_ins.records
        return [records.name_of(one) for one in objects if one and records]
