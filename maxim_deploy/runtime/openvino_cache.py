"""What OpenVINO compiled, kept as files of this user's, so that the next process need not.

    <cache folder>/openvino/<hash>.blob

The hash is of all that the compiled form depends on: graph and weights, shape, precision, threads,
OpenVINO's version and the processor. OpenVINO reads such a file without suspicion, so its format is
that of `maxim_deploy.engines.library_file`, with a key of this user's: a file that is damaged or
that somebody else wrote is set aside. The longest unused files go when all of them together take
more than `MOST_BYTES`. A folder that cannot be written to is no error: every process compiles then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from maxim_deploy.engines.library_file import LibraryFile
from maxim_deploy.errors import MissingDependencyError, UsageError
from maxim_deploy.machine.cache import cache_folder, user_key

logger = logging.getLogger(__name__)

MOST_BYTES = 2 * 2**30
"""Of all files together: thirty shapes of S-2, which take 60 MB each."""


class CompiledFiles:
    """The files of one graph.

    Args:
        made_of: what every compiled form of the graph depends on, ready for JSON.
        library: OpenVINO and its version.
        processor: that it is compiled for.
    """

    def __init__(self, made_of: Mapping[str, Any], library: str, processor: str) -> None:
        self._made_of = {**made_of, "library": library, "processor": processor}
        self._library, self._processor = library, processor
        self._key: bytes | None = None
        try:
            self._key, self._folder = user_key(), cache_folder() / "openvino"
        except (OSError, MissingDependencyError, UsageError) as error:
            self._give_up(error)

    def read(self, shape: tuple[int, ...]) -> bytes:
        """The compiled form for a shape; nothing if there is none, or none that can be read."""
        if self._key is None:
            return b""
        file = self._file(shape)
        try:
            if content := file.read():
                os.utime(file.path)  # the longest unused go first
            return content
        except OSError as error:
            self._give_up(error)
            return b""

    def refuse(self, shape: tuple[int, ...]) -> None:
        """Set a file aside that OpenVINO does not take."""
        with suppress(OSError):
            self._file(shape).set_aside("was refused by OpenVINO")

    def write(self, shape: tuple[int, ...], compiled: Any) -> None:
        """Keep the `openvino.CompiledModel` for a shape, if that can be done."""
        if self._key is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file(shape).write(compiled.export_model().getbuffer())
            _prune(self._folder)
        except (OSError, RuntimeError) as error:  # OpenVINO raises the latter
            self._give_up(error)

    def _file(self, shape: tuple[int, ...]) -> LibraryFile:
        facts = json.dumps({**self._made_of, "shape": shape}, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(facts.encode()).hexdigest()}.blob"
        what, key = "compiled network", self._key
        return LibraryFile(path, what, self._library, self._processor, logger.warning, key)

    def _give_up(self, error: Exception) -> None:
        """Compile from now on without files, and say so once."""
        self._key = None
        logger.warning("compiled networks cannot be kept: %s", error)


def _prune(folder: Path) -> None:
    """Remove the longest unused files beyond `MOST_BYTES`; others may do the same meanwhile."""
    found = []
    for path in folder.glob("*.blob*"):
        with suppress(OSError):
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > MOST_BYTES:
            path.unlink(missing_ok=True)
