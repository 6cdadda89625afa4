"""Lists, reads and writes objects in stores. Only this module uses the file systems of fsspec.

An object is written whole or not at all. Every error is a `StoreError`. The errors of the libraries
are dropped, because their texts may contain a key or a signed URL.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import CancelledError, StoreError
from maxim_deploy.jobs.store_reasons import store_errors
from maxim_deploy.jobs.urls import WEB, name_of, shown

_BLOCK = 8 * 2**20
"""Bytes of a part of an upload, which is about the memory that an upload takes."""

_MOST_PARTS = 9_000
"""Most parts of an upload; S3 accepts 10,000."""

_AT_A_TIME = 16
"""Small objects that are read at a time. A store's latency limits more than its bandwidth."""

_VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest", "generation"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "modified", "created"),
)
"""Fields of stores that change with an object's content, the most reliable first."""


@dataclass(frozen=True)
class StoredObject:
    """An object, or the prefix of several.

    Attributes:
        store: the store that holds it.
        key: its name in the store, as fsspec spells it; for the web, the full URL.
        size: size in bytes; None if the store has not reported it.
        version: a text that changes with the content; None if the store reports none.
    """

    store: Store = field(repr=False)
    key: str = field(repr=False)
    size: int | None = field(default=None, compare=False)
    version: str | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The last segment, as the name of a file."""
        return name_of(
            str(self.key) if self.store.is_web else f"{self.store.protocol}://{self.key}"
        )

    def beside(self, name: str) -> StoredObject:
        """Another object of the same prefix."""
        return StoredObject(self.store, f"{self.key.rpartition('/')[0]}/{name}")

    def below(self, path: str) -> StoredObject:
        """An object below this prefix."""
        return StoredObject(self.store, f"{self.key.rstrip('/')}/{path}")

    def __str__(self) -> str:
        return self.store.shown(self.key)


class Store:
    """One file system of fsspec; any number of threads may use it.

    Args:
        protocol: protocol of its URLs.
        system: the file system of fsspec.
    """

    def __init__(self, protocol: str, system: Any) -> None:
        self.protocol, self._system = protocol, system
        self.is_web = protocol in WEB

    def shown(self, key: str) -> str:
        """The URL of a key, without secrets."""
        return shown(key if self.is_web else f"{self.protocol}://{key.lstrip('/')}")

    def look_up(self, one: StoredObject) -> tuple[StoredObject, bool]:
        """The object with its size and version, and whether it is a prefix with objects below.

        Raises:
            StoreError: there is neither an object nor a prefix, or the store does not answer.
        """
        with store_errors(str(one), "read"):
            info = self._system.info(one.key)
        return self._with(one.key, info), info.get("type") == "directory"

    def is_prefix(self, one: StoredObject) -> bool:
        """Whether there are objects below a prefix, and no object of exactly its name.

        Raises:
            StoreError: the store does not answer.
        """
        with store_errors(str(one), "read"):
            return bool(self._system.isdir(one.key))

    def objects_below(self, prefix: StoredObject, *, recursive: bool) -> list[StoredObject]:
        """All objects below a prefix, or only those directly below it, sorted by key.

        Raises:
            StoreError: they cannot be listed.
        """
        depth = None if recursive else 1
        with store_errors(str(prefix), "listed"):
            found = self._system.find(prefix.key, maxdepth=depth, detail=True)
        return self._all_of(found)

    def matches(self, pattern: StoredObject) -> list[StoredObject]:
        """The objects whose keys match a pattern such as "bucket/photos/*.jpg".

        Raises:
            StoreError: they cannot be listed.
        """
        with store_errors(str(pattern), "listed"):
            found = self._system.glob(pattern.key, detail=True)
        return self._all_of(found)

    def download(self, one: StoredObject, path: Path, stop: threading.Event) -> None:
        """Download an object to a file. After an error the file's content is invalid.

        Raises:
            StoreError: it cannot be read, or its size has changed.
            CancelledError: `stop` was set.
        """
        with store_errors(str(one), "read"):
            self._system.get_file(one.key, str(path), callback=_stopping(stop))
        size = path.stat().st_size
        if one.size not in (None, size) and not self.is_web:
            raise StoreError(f"'{one}' | it changed during the download | try again")

    def upload(self, path: Path, one: StoredObject, stop: threading.Event) -> StoredObject:
        """Upload a file as an object, which is replaced as a whole or unchanged.

        Returns:
            The object with its size and version.

        Raises:
            StoreError: it cannot be written.
            CancelledError: `stop` was set.
        """
        size = path.stat().st_size
        with store_errors(str(one), "written"):
            if size <= _BLOCK:
                self._system.pipe_file(one.key, path.read_bytes())
            else:
                self._upload_in_parts(path, one, size, stop)
            return self._with(one.key, self._system.info(one.key))

    def _upload_in_parts(
        self, path: Path, one: StoredObject, size: int, stop: threading.Event
    ) -> None:
        block = max(_BLOCK, -(-size // _MOST_PARTS))
        file = self._system.open(one.key, "wb", block_size=block)
        try:
            with path.open("rb") as source:
                while part := source.read(block):
                    if stop.is_set():
                        raise CancelledError("interrupted")
                    file.write(part)
            file.close()
        except BaseException:
            # Otherwise the garbage collector would complete the upload and leave half an object.
            with suppress(Exception):
                file.discard()
            file.closed = True
            raise

    def read(self, objects: list[StoredObject]) -> list[bytes]:
        """The contents of small objects, without those that were removed in the meantime.

        Raises:
            StoreError: an object cannot be read.
        """
        with ThreadPoolExecutor(_AT_A_TIME, "maxim-deploy-records") as threads:
            return [content for content in threads.map(self._content, objects) if content]

    def _content(self, one: StoredObject) -> bytes | None:
        with store_errors(str(one), "read"):
            try:
                content: bytes = self._system.cat_file(one.key)
            except FileNotFoundError:
                return None
            return content

    def write(self, one: StoredObject, content: bytes) -> None:
        """Write a small object, whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        with store_errors(str(one), "written"):
            self._system.pipe_file(one.key, content)

    def remove(self, one: StoredObject) -> None:
        """Remove an object if it exists.

        Raises:
            StoreError: it cannot be removed.
        """
        with store_errors(str(one), "removed"):
            if self._system.exists(one.key):
                self._system.rm_file(one.key)

    def _all_of(self, found: dict[str, dict[str, Any]]) -> list[StoredObject]:
        # A key that ends in a slash stands for a folder in the views of some programs.
        files = {k: v for k, v in found.items() if v["type"] == "file" and not k.endswith("/")}
        return [self._with(key, files[key]) for key in sorted(files)]

    def _with(self, key: str, info: dict[str, Any]) -> StoredObject:
        name = next((name for name in _VERSIONS if info.get(name)), None)
        value = info[name] if name else None
        if isinstance(value, datetime):
            value = value.timestamp()  # listings of some stores have the number
        return StoredObject(self, key, info.get("size"), f"{name} {value}" if name else None)


def _stopping(stop: threading.Event) -> Any:
    """A callback of fsspec that ends a download between two pieces."""
    callbacks = require("fsspec.callbacks", "cloud")

    def check(*_: Any, **__: Any) -> None:
        if stop.is_set():
            raise CancelledError("interrupted")

    return callbacks.Callback(hooks={"stop": check})
