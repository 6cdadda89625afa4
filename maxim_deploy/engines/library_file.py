"""A file with bytes of a library, for use with the same library and GPU.

The file is a line of JSON and then the bytes:

    {"format": "maxim-deploy timing cache 1", "library": "tensorrt 10.14.1", "gpu": "NVIDIA L4",
     "sha256": "...", "bytes": 12345, "mac": "..."}

The libraries do not validate their bytes, so header and hash are checked first. A damaged file, or
one for another library or GPU, is set aside. The hash in the file detects damage but not malice,
because a writer can also change the hash. In a bundle, which may come from anyone, `mac` is an
HMAC-SHA-256 of the bytes with a key that only this user has. A file written by another user is then
set aside too.
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
"""Most bytes of a file. No library makes a larger one."""


class LibraryFile:
    """A file for one version of a library and one GPU model.

    Args:
        path: the file, which need not exist.
        what: the kind of file, such as "timing cache".
        library: the library and its version.
        gpu: name of the GPU, or of another processor that the bytes are for.
        progress: called when a file is set aside.
        key: secret key of the only user whose files are accepted; None to accept all.
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
        """Replace the file. Raises OSError."""
        digest = hashlib.sha256(payload).hexdigest()
        record = {"sha256": digest, "bytes": len(payload)}
        header = {"format": self._format, **self._made_for, **record, **self._mac(payload)}
        # A link in a bundle may lead anywhere, but one that a user names is intended.
        with atomic_file(self.path, follow=self._key is None) as file:
            # Not joined, which would copy up to 60 MB.
            file.write(json.dumps(header).encode() + b"\n")
            file.write(payload)

    def read(self) -> bytes:
        """The library's bytes; empty if the file is missing or was set aside.

        Raises:
            OSError: the file cannot be read or set aside.
        """
        try:
            content = read_bounded(self.path, _MOST_BYTES, follow=self._key is None)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        # The payload may have line breaks. Only the first one ends the header.
        line, _, payload = content.partition(b"\n")
        if why := self._refused(line[:_MAX_HEADER], payload):
            self.set_aside(why)
            return b""
        return payload

    def set_aside(self, why: str) -> None:
        """Rename the file to stop its use. Raises OSError."""
        # Renamed rather than deleted: a user may have named the wrong file.
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
                return "was written by another user"
        except (ValueError, KeyError, TypeError):
            return "is not one of ours"
        return ""

    def _mac(self, payload: bytes | memoryview) -> dict[str, str]:
        """The MAC for the header; empty without a key."""
        if self._key is None:
            return {}
        mac = hmac.new(self._key, json.dumps([self._format, self._made_for]).encode(), "sha256")
        mac.update(payload)
        return {"mac": mac.hexdigest()}
