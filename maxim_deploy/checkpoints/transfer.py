"""Download a URL to a file in several attempts.

After a lost connection the received part is kept, with the server's tag (ETag) of that version in
`<file>.etag` beside it. The next attempt requests the rest on condition that the tag is unchanged.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.client
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT = 60.0
"""Seconds without a byte after which the server counts as lost."""

ByteProgress = Callable[[int, int | None], None]
"""Called with bytes so far, and total bytes or None if the server does not state them."""

Stated = dict[str, bytes]
"""Hashes by name, a key of `_HASHES`."""

_CHUNK = 1 << 18


def fetch(url: str, partial: Path, progress: ByteProgress | None = None) -> Stated:
    """Complete the file `partial` from its end, or from the start if the server cannot resume.

    Returns:
        The server's hashes of the whole file.

    Raises:
        OSError: there was no answer or an incomplete one (a `ConnectionError` with a readable
            message), or `partial` cannot be written. Received bytes stay in `partial`.
    """
    try:
        return _fetch(url, partial, progress)
    except HTTPError as error:
        error.close()
        raise ConnectionError(f"the server answers {error.code} {error.reason}") from error
    except URLError as error:
        raise ConnectionError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"the server's answer is broken ({error!r})") from error


def _fetch(url: str, partial: Path, progress: ByteProgress | None) -> Stated:
    etag = partial.with_name(f"{partial.name}.etag")
    response, done = _resumed(url, partial, etag) or (_opened(url), 0)
    with response, partial.open("r+b") as file:
        total = None if response.length is None else done + response.length
        stated = _stated(response.headers)
        # In this order, a tag never lies beside bytes of another version.
        file.truncate(done)
        etag.unlink(missing_ok=True)  # a link there is not our file
        etag.write_text(response.headers.get("ETag", ""), "utf-8")
        file.seek(done)
        while True:
            if progress:
                progress(done, total)
            chunk = response.read(_CHUNK)
            if not chunk:
                break
            done += file.write(chunk)
        # The caller renames the file next, so its content must be on the disk.
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise ConnectionError(f"the connection closed after {done:,} of {total:,} bytes")
    etag.unlink()
    return stated


def check_stated(path: Path, stated: Stated) -> str:
    """Compare a file with the server's hashes, and remove it if one differs.

    Returns:
        Names of the compared hashes, such as "MD5"; empty if the server states none.

    Raises:
        ConnectionError: a hash differs.
    """
    for name, expected in stated.items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, _HASHES[name]).digest()
        if found != expected:
            path.unlink()
            raise ConnectionError(
                f"the received file has {name} {found.hex()}, the server states {expected.hex()}"
            )
    return " and ".join(stated)


_HASHES: dict[str, Callable[[], Any]] = {
    "MD5": functools.partial(hashlib.md5, usedforsecurity=False),
    "SHA-256": hashlib.sha256,
}
_STATED = re.compile(r"\b(md5|sha-256)=:?([A-Za-z0-9+/]+=*)", re.IGNORECASE)
"""From `x-goog-hash: crc32c=...,md5=...` of the published bucket, and from `Repr-Digest` and
`Digest` of other servers. All apply to the whole file, even in a partial answer."""


def _stated(headers: Any) -> Stated:
    lines = [x for name in _STATED_IN for x in headers.get_all(name, [])]
    found = {}
    for name, text in _STATED.findall(",".join(lines)):
        with suppress(ValueError):  # another encoding
            found[name.upper()] = base64.b64decode(text, validate=True)
    return found


_STATED_IN = ("x-goog-hash", "Repr-Digest", "Digest")


def _resumed(url: str, partial: Path, etag: Path) -> tuple[Any, int] | None:
    """An answer with the rest of the file, and the bytes already received; None to start over."""
    done = partial.stat().st_size
    tag = etag.read_text("utf-8") if etag.exists() else ""
    # A weak tag guarantees the meaning of a file but not its bytes.
    if not done or not tag or tag.startswith("W/"):
        return None
    try:
        response = _opened(url, {"Range": f"bytes={done}-", "If-Range": tag})
    # For example 416: there is nothing after `done`.
    except HTTPError as error:
        error.close()
        return None
    # The whole file: it has changed, or the server does not support ranges.
    if response.status == 200:
        return response, 0
    starts_there = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
    if starts_there and response.headers.get("ETag", tag) == tag:
        return response, done
    response.close()
    return None


def _opened(url: str, headers: dict[str, str] | None = None) -> Any:
    request = Request(url, headers={"User-Agent": "maxim-deploy", **(headers or {})})  # noqa: S310 - from our table
    return build_opener(_HttpsRedirects).open(request, timeout=TIMEOUT)


class _HttpsRedirects(HTTPRedirectHandler):
    """Follow redirects to HTTPS only."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if not newurl.lower().startswith("https://"):
            fp.close()
            raise URLError(f"the server redirects to {newurl!r}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
