"""The record of `maxim-parity --dataset --resume`: a score per pair of pictures.

The file has a JSON line for each measured picture:

    {"settings": SHA-256, "name", "files": {"input": {"path", "size", "sha256"},
     "target": ..., "result": ...}, "score": {"psnr", "paper_psnr", "ssim"}}

"result" is present if the stage is a folder of pictures. A line torn by a killed process is
skipped, and its picture is measured again.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from maxim_deploy._records import append_lines, read_intact_lines
from maxim_deploy.errors import ImageError, quoted
from maxim_deploy.jobs.record import Fingerprint, digest_of
from maxim_deploy.spec.decoding import decoded

if TYPE_CHECKING:
    from maxim_deploy.parity.dataset import Pair, Score
    from maxim_deploy.parity.stage import Stage

logger = logging.getLogger(__name__)


class ScoreRecord:
    """The scores of earlier runs.

    Args:
        path: the file; None to record nothing.
        settings: all that a score depends on besides its files, ready for JSON.

    Raises:
        ImageError: the file cannot be read or written.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self._settings = digest_of(settings)
        self._path = path
        self._lines: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        try:
            append_lines(path, [])  # a failure shows now
            lines = read_intact_lines(path, _checked)
        except OSError as error:
            raise ImageError(f"record {quoted(path)} | {error.strerror}") from error
        self._lines = {line["name"]: line for line in lines if line["settings"] == self._settings}

    def score_of(self, name: str, files: dict[str, Path]) -> Score | None:
        """The score of a pair if its files are unchanged, or None."""
        line = self._lines.get(name)
        with suppress(KeyError, OSError):  # the pair had other files, or a file is missing
            if line and all(
                Fingerprint.from_json(line["files"][role]).still_fits(path)
                for role, path in files.items()
            ):
                return dict(line["score"])
        return None

    def note(self, name: str, before: dict[str, Any], score: Score) -> None:
        """Record a score. `before` has the files' fingerprints from before reading.

        If writing fails, a warning says so and recording ends. The score still counts.
        """
        if self._path is None:
            return
        line = {"settings": self._settings, "name": name, "files": before, "score": score}
        try:
            append_lines(self._path, [line])
        except OSError as error:
            logger.warning(
                "record '%s' | %s | later scores are not recorded",
                self._path,
                error.strerror,
            )
            self._path = None


class _Line(TypedDict):
    settings: str
    name: str
    files: dict[str, dict[str, Any]]
    score: dict[str, float]


def _checked(line: Any) -> dict[str, Any]:
    """A line's content. Raises TypeError or KeyError for another format."""
    checked: dict[str, Any] = decoded(_Line, line, "line")
    for facts in checked["files"].values():
        Fingerprint.from_json(facts)
    return checked


def files_of(pair: Pair, stage: Stage) -> dict[str, Path]:
    """All files of a pair's score by role.

    Raises:
        ImageError: the stage is a folder without a result for the pair.
    """
    from maxim_deploy.parity.stored import Folder

    files = {"input": pair.input, "target": pair.target}
    return {**files, "result": stage.file_of(pair.name)} if isinstance(stage, Folder) else files


def fingerprints(name: str, files: dict[str, Path]) -> dict[str, Any]:
    """The present fingerprints of a pair's files.

    Raises:
        ImageError: a file cannot be read.
    """
    try:
        return {role: asdict(Fingerprint.of(path)) for role, path in files.items()}
    except OSError as error:
        raise ImageError(f"pair {name!r} | {error.strerror}") from error
