"""The timing cache of full TensorRT as a file: what a build measured, for later builds.

The file is a line of JSON and then the library's bytes:

    {"format": "maxim-deploy timing cache 1", "library": "tensorrt 10.14.1", "gpu": "NVIDIA L4",
     "sha256": "...", "bytes": 12345}

The library parses its bytes without suspicion, so header and hash are checked before it sees them.
A file that is not for this library and GPU, or damaged, is set aside and the build goes on without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maxim_deploy._files import atomic_file
from maxim_deploy._optional import require
from maxim_deploy.errors import EngineError, UsageError

FORMAT = "maxim-deploy timing cache 1"
_MAX_HEADER = 4096


class TimingCacheFile:
    """A timing cache on disk, shared by builders of one library version and one GPU model.

    Args:
        path: the file; it need not exist.
        library: the library and its version.
        gpu: name of the GPU.
        say: told when a file is set aside.
    """

    def __init__(self, path: Path, library: str, gpu: str, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._made_for = {"library": library, "gpu": gpu}

    def load(self, config: Any) -> Any:
        """A `trt.ITimingCache` with what the file holds for us, which may be nothing."""
        return config.create_timing_cache(self._payload())

    def merge(self, config: Any, cache: Any) -> None:
        """Add what a build has learned to what is in the file by now, under a lock.

        Raises:
            EngineError: the file cannot be written.
        """
        filelock = require("filelock", "tensorrt")
        try:
            with filelock.FileLock(self._path.with_name(self._path.name + ".lock")):
                on_disk = self._payload()
                if on_disk:
                    cache.combine(config.create_timing_cache(on_disk), False)
                self._write(bytes(memoryview(cache.serialize())))
        except OSError as error:
            raise EngineError(
                f"cannot write the timing cache {str(self._path)!r}: {error}"
            ) from error

    def _write(self, payload: bytes) -> None:
        digest = hashlib.sha256(payload).hexdigest()
        header = {"format": FORMAT, **self._made_for, "sha256": digest, "bytes": len(payload)}
        with atomic_file(self._path) as file:
            file.write(json.dumps(header).encode() + b"\n" + payload)

    def _payload(self) -> bytes:
        """The library's bytes, or nothing if the file is not there or was set aside."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except NotADirectoryError:
            return b""
        except OSError as error:
            raise UsageError(
                f"cannot read the timing cache {str(self._path)!r}: {error}"
            ) from error
        line, _, payload = content.partition(b"\n")
        if why := self._refused(line[:_MAX_HEADER], payload):
            aside = self._path.with_name(self._path.name + ".rejected")
            self._path.replace(aside)
            self._say(f"timing cache {str(self._path)!r} {why}; set aside as {aside.name!r}")
            return b""
        return payload

    def _refused(self, line: bytes, payload: bytes) -> str:
        try:
            header = json.loads(line)
            if header["format"] != FORMAT:
                return f"has format {header['format']!r}, not {FORMAT!r}"
            for key, ours in self._made_for.items():
                if header[key] != ours:
                    return f"is for {key} {header[key]!r}, not {ours!r}"
            if header["sha256"] != hashlib.sha256(payload).hexdigest():
                return "is damaged (its hash differs)"
        except (ValueError, KeyError, TypeError):
            return "is not one of ours"
        return ""
