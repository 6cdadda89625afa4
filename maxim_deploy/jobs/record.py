"""The record of finished results: a file of JSON lines beside the results.

`.maxim-run.jsonl` has a line for each finished result. The last line for a name counts:

    {"settings": SHA-256, "input": {"path", "size", "sha256"}, "outputs": {name: SHA-256}}

The kept frames of a video that ended early have their own line. A run writes the record if `resume`
is set, so that a later run skips finished results. It also writes it if results lie among the
inputs, so that the next run does not take them for inputs.

A run of one shard writes `.maxim-run.I-of-N.jsonl` instead: hosts that share a folder over NFS
cannot append to one file safely. Every run reads the records of all shards, whatever their N.

A line is appended in one write once its files are whole under their final names. So several
processes may share a folder. A killed process leaves a missing or torn line, which readers skip:
the file is then restored again, and never left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from maxim_deploy._files import sha256_of
from maxim_deploy._records import append_lines, read_intact_lines
from maxim_deploy.jobs.shards import Shard

NAME = ".maxim-run.jsonl"
_OF_SHARDS = ".maxim-run.*-of-*.jsonl"


@dataclass(frozen=True)
class Fingerprint:
    """A file at one moment: true path, size in bytes, SHA-256 of its content."""

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """The fingerprint of a file now."""
        return cls(os.path.realpath(path), path.stat().st_size, sha256_of(path))

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Fingerprint:
        """The inverse of `asdict`. Other keys are ignored, because earlier versions wrote some.

        Raises:
            KeyError, TypeError: a key is missing, or this is no object.
        """
        return cls(facts["path"], facts["size"], facts["sha256"])

    def still_fits(self, path: Path) -> bool:
        """Whether `path` has this content."""
        # Size and time do not suffice: `cp -p`, `touch -r` and many editors keep the time.
        return path.stat().st_size == self.size and sha256_of(path) == self.sha256


@dataclass(frozen=True)
class FinishedFile:
    """A result that is whole under its final name; a record has one line for it.

    Attributes:
        made_of: fingerprint of the input as it was read.
        folder: folder of all files of the result.
        outputs: SHA-256 of each file, by name.
    """

    made_of: Fingerprint
    folder: Path
    outputs: dict[str, str]

    @classmethod
    def of(cls, made_of: Fingerprint, outputs: list[Path]) -> FinishedFile:
        """A finished file from outputs that lie in one folder, with their digests now."""
        return cls(made_of, outputs[0].parent, {path.name: sha256_of(path) for path in outputs})


def digest_of(settings: dict[str, Any]) -> str:
    """SHA-256 of settings; their order does not matter."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class ResumeRecord:
    """The finished results in any number of output folders.

    Args:
        settings: everything that a result depends on besides its input, ready for JSON.
        shard: the shard that this run restores; None for all files.
    """

    def __init__(self, settings: dict[str, Any], shard: Shard | None = None) -> None:
        self._all_settings, self._settings = settings, digest_of(settings)
        self._name = f".maxim-run.{shard}.jsonl" if shard else NAME
        self._folders: dict[Path, dict[str, list[dict[str, Any]]]] = {}

    def made_by(self, settings: dict[str, Any]) -> None:
        """Record later results with these settings in place of the first ones."""
        self._settings = digest_of({**self._all_settings, **settings})

    def has(self, source: Path, outputs: list[Path]) -> bool:
        """Whether these settings made the current `outputs` from the current `source`.

        Raises:
            OSError: the input or the record cannot be read.
        """
        return any(self._fits(line, source, outputs) for line in self._lines_of(outputs))

    def fingerprint(self, source: Path) -> Fingerprint | None:
        """Fingerprint of an input now; None if a later change could not be detected."""
        return Fingerprint.of(source)

    def names(self, outputs: list[Path]) -> bool:
        """Whether a record says that these settings made `outputs`, and the outputs exist.

        This is for an overview: it reads neither outputs nor input, so either may have changed.

        Raises:
            OSError: the record cannot be read.
        """
        return bool(self._lines_of(outputs)) and all(path.exists() for path in outputs)

    def _lines_of(self, outputs: list[Path]) -> list[dict[str, Any]]:
        """The lines about exactly these files, made with these settings."""
        names = {path.name for path in outputs}
        lines = self._lines(outputs[0].parent).get(outputs[0].name, [])
        return [x for x in lines if self._is_ours(x, names)]

    def _is_ours(self, line: dict[str, Any], names: set[str]) -> bool:
        return line["settings"] == self._settings and set(line["outputs"]) == names

    def _fits(self, line: dict[str, Any], source: Path, outputs: list[Path]) -> bool:
        is_whole = self._are_whole(line, outputs)
        return is_whole and self._still_fits(Fingerprint.from_json(line["input"]), source)

    def _are_whole(self, line: dict[str, Any], outputs: list[Path]) -> bool:
        try:
            return all(sha256_of(path) == line["outputs"][path.name] for path in outputs)
        except FileNotFoundError:
            return False

    def _still_fits(self, recorded: Fingerprint, source: Path) -> bool:
        return recorded.still_fits(source)

    def note(self, fingerprint: Fingerprint, outputs: list[Path]) -> None:
        """Record that `outputs`, all in one folder, were made from an input.

        Raises:
            OSError: the record cannot be written.
        """
        self.add(FinishedFile.of(fingerprint, outputs))

    def add(self, finished: FinishedFile) -> None:
        """Record a result that this process or another one has made.

        Raises:
            OSError: the record cannot be written.
        """
        line = self._line(finished.made_of, finished.outputs)
        append_lines(finished.folder / self._name, [line], follow=False)

    def _line(self, fingerprint: Fingerprint, outputs: dict[str, str]) -> dict[str, Any]:
        return {"settings": self._settings, "input": asdict(fingerprint), "outputs": outputs}

    def _lines(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """The lines of a folder's records, by the name of the result."""
        if folder not in self._folders:
            found: dict[str, list[dict[str, Any]]] = {}
            for lines in _records_in(folder):
                # The last line of each record counts. Lines of several records have no order.
                for name, line in {next(iter(x["outputs"])): x for x in lines}.items():
                    found.setdefault(name, []).append(line)
            self._folders[folder] = found
        return self._folders[folder]


class FinishedFiles(ResumeRecord):
    """Keeps finished results in memory, for the process that writes the record.

    Attributes:
        finished: the results, oldest first.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.finished: list[FinishedFile] = []

    def add(self, finished: FinishedFile) -> None:
        """Keep a result in memory."""
        self.finished.append(finished)


class EarlierResults:
    """The files that records name as results, in any number of folders."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, str]] = {}

    def __contains__(self, path: Path) -> bool:
        """Whether a run wrote this file and it has not changed since.

        Raises:
            OSError: the file or the record cannot be read.
        """
        digest = self._digests(path.parent).get(path.name)
        # A file that a user has put in place of a result belongs to the user.
        return digest is not None and sha256_of(path) == digest

    def _digests(self, folder: Path) -> dict[str, str]:
        if folder not in self._folders:
            digests: dict[str, str] = {}
            for line in chain.from_iterable(_records_in(folder)):
                digests |= line["outputs"]
            self._folders[folder] = digests
        return self._folders[folder]


def _records_in(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The lines of each record of a folder, those of shards included."""
    # The first path is read even if the folder's listing lacks it; the read refuses a link there.
    for path in (folder / NAME, *sorted(folder.glob(_OF_SHARDS))):
        yield read_intact_lines(path, checked_line, follow=False)


def checked_line(line: Any) -> dict[str, Any]:
    """The content of a line after a check of its fields.

    Raises:
        ValueError, TypeError, KeyError: it is no line of a record.
    """
    Fingerprint.from_json(line["input"])
    if not isinstance(line["outputs"], dict) or not line["outputs"] or not line["settings"]:
        raise ValueError("this is no line of a finished result")
    return dict(line)
