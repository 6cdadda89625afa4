"""Bytes of a library's, kept as a file for the same library and GPU.

The file is a line of JSON and then the bytes:

    {"format": "maxim-deploy timing cache 1", "library": "tensorrt 10.14.1", "gpu": "NVIDIA L4",
     "sha256": "...", "bytes": 12345, "mac": "..."}

The libraries parse their bytes without suspicion, so header and hash are checked before they see
them. A file that is not for this library and GPU, or damaged, is set aside. The hash is in the file
itself: it shows damage, not malice. Whoever may write the file may write anything into it. Where
the file lies in a bundle, which may come from anybody, `mac` is an HMAC-SHA-256 of the bytes with a
key that only this user has: a file that somebody else wrote is set aside as well.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from maxim_deploy._files import atomic_file
from maxim_deploy._progress import Progress
from maxim_deploy._reading import load_json, read_bounded
from maxim_deploy.errors import shown

_MAX_HEADER = 4096

_MOST_BYTES = 2**31
"""Larger ones were made by no library."""


class LibraryFile:
    """A file of one library version's and one GPU model's.

    Args:
        path: the file; it need not exist.
        what: it is, such as "timing cache".
        library: the library and its version.
        gpu: name of the GPU, or of another processor that the bytes are for.
        progress: told when a file is set aside.
        key: secret of the only user whose files are read; None for files of anybody.
    """

    def __init__(
        self,
        path: Path,
        what: str,
        library: str,
        gpu: str,
        progress: Progress,
        key: bytes | None = None,
    ) -> None:
        self.path, self._what, self._progress, self._key = path, what, progress, key
        self._format = f"maxim-deploy {what} 1"
        self._made_for = {"library": library, "gpu": gpu}

    def write(self, payload: bytes | memoryview) -> None:
        """Replace the file; raises OSError."""
        digest = hashlib.sha256(payload).hexdigest()
        record = {"sha256": digest, "bytes": len(payload)}
        header = {"format": self._format, **self._made_for, **record, **self._mac(payload)}
        # A link in a bundle may lead anywhere; one that a user names is meant.
        with atomic_file(self.path, follow=self._key is None) as file:
            # Not joined: a network of 60 MB would be copied.
            file.write(json.dumps(header).encode() + b"\n")
            file.write(payload)

    def read(self) -> bytes:
        """The library's bytes, or nothing if the file is not there or was set aside.

        Raises:
            OSError: the file cannot be read or set aside.
        """
        try:
            content = read_bounded(self.path, _MOST_BYTES, follow=self._key is None)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        # The payload may have line breaks: only the first one ends the header.
        line, _, payload = content.partition(b"\n")
        if why := self._refused(line[:_MAX_HEADER], payload):
            self.set_aside(why)
            return b""
        return payload

    def set_aside(self, why: str) -> None:
        """Rename the file, so that it is not tried again; raises OSError."""
        # Kept rather than deleted: a user may have named the wrong file.
        aside = self.path.with_name(self.path.name + ".rejected")
        self.path.replace(aside)
        self._progress(f"{self._what} {str(self.path)!r} {why}; set aside as {aside.name!r}")

    def _refused(self, line: bytes, payload: bytes) -> str:
        try:
            header = load_json(line)
            if header["format"] != self._format:
                return f"has format {shown(header['format'])}, not {self._format!r}"
            for key, ours in self._made_for.items():
                if header[key] != ours:
                    return f"is for {key} {shown(header[key])}, not {ours!r}"
            if header["sha256"] != hashlib.sha256(payload).hexdigest():
                return "is damaged (its hash differs)"
            if any(header.get(key) != mac for key, mac in self._mac(payload).items()):
                return "was written by somebody else"
        except (ValueError, KeyError, TypeError):
            return "is not one of ours"
        return ""

    def _mac(self, payload: bytes | memoryview) -> dict[str, str]:
        """What the header says beyond the hash; nothing without a key."""
        if self._key is None:
            return {}
        mac = hmac.new(self._key, json.dumps([self._format, self._made_for]).encode(), "sha256")
        mac.update(payload)
        return {"mac": mac.hexdigest()}
