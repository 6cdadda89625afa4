"""Files of compiled OpenVINO models for later processes of this user.

    <cache folder>/openvino/<hash>.blob

The hash covers all that the compiled form depends on: graph and weights, shape, precision, threads,
OpenVINO's version and the processor. OpenVINO does not validate files, so the format is that of
`maxim_deploy.engines.library_file` with this user's key: a damaged file, or one of another user, is
set aside. The least recently used files are removed if the total exceeds `MOST_BYTES`. If the
folder is not writable, every process compiles again.
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
"""Most bytes of all files: thirty shapes of S-2 of 60 MB each."""


class CompiledFiles:
    """The files of one graph.

    Args:
        made_of: all that the compiled forms of the graph depend on, ready for JSON.
        library: OpenVINO and its version.
        processor: processor that it is compiled for.
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
        """The compiled form for a shape; None if it is missing or unreadable."""
        if self._key is None:
            return b""
        file = self._file(shape)
        try:
            if content := file.read():
                os.utime(file.path)  # the least recently used are removed first
            return content
        except OSError as error:
            self._give_up(error)
            return b""

    def refuse(self, shape: tuple[int, ...]) -> None:
        """Set aside a file that OpenVINO refuses."""
        with suppress(OSError):
            self._file(shape).set_aside("was refused by OpenVINO")

    def write(self, shape: tuple[int, ...], compiled: Any) -> None:
        """Keep the `openvino.CompiledModel` for a shape if possible."""
        if self._key is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file(shape).write(compiled.export_model().getbuffer())
            _prune(self._folder)
        except (OSError, RuntimeError) as error:  # OpenVINO raises RuntimeError
            self._give_up(error)

    def _file(self, shape: tuple[int, ...]) -> LibraryFile:
        facts = json.dumps({**self._made_of, "shape": shape}, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(facts.encode()).hexdigest()}.blob"
        what, key = "compiled network", self._key
        return LibraryFile(path, what, self._library, self._processor, logger.warning, key)

    def _give_up(self, error: Exception) -> None:
        """Stop using files, and log that once."""
        self._key = None
        logger.warning("compiled networks cannot be kept: %s", error)


def _prune(folder: Path) -> None:
    """Remove the least recently used files beyond `MOST_BYTES`. Other processes may do the same."""
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
