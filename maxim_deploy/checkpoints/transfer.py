"""The bytes behind a URL to a file, in as many attempts as it takes.

What is there after a cut connection is kept, with the server's tag (ETag) of that version in
`<file>.etag` beside it; the next attempt asks for the rest on condition that the tag still holds.
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT = 60.0
"""Seconds without a byte before the server counts as gone."""

ByteProgress = Callable[[int, int | None], None]
"""Called with bytes so far, and bytes in all or None where the server does not say."""

_CHUNK = 1 << 18


def fetch(url: str, partial: Path, progress: ByteProgress | None = None) -> None:
    """Complete the existing file `partial` from where it ends; if that cannot be, from the start.

    Raises:
        OSError: no or not the whole answer, in words fit for a message (`ConnectionError`), or
            `partial` cannot be written. What has come in stays in `partial`.
    """
    try:
        _fetch(url, partial, progress)
    except HTTPError as error:
        error.close()
        raise ConnectionError(f"the server answers {error.code} {error.reason}") from error
    except URLError as error:
        raise ConnectionError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"the server's answer is broken ({error!r})") from error


def _fetch(url: str, partial: Path, progress: ByteProgress | None) -> None:
    etag = partial.with_name(f"{partial.name}.etag")
    response, done = _resumed(url, partial, etag) or (_opened(url), 0)
    with response, partial.open("r+b") as file:
        total = None if response.length is None else done + response.length
        # In this order, so that no tag ever stands beside bytes of another version.
        file.truncate(done)
        etag.write_text(response.headers.get("ETag", ""), "utf-8")
        file.seek(done)
        while True:
            if progress:
                progress(done, total)
            chunk = response.read(_CHUNK)
            if not chunk:
                break
            done += file.write(chunk)
        # The caller renames the file next, so its content must be on the disk by now.
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise ConnectionError(f"the connection closed after {done:,} of {total:,} bytes")
    etag.unlink()


def _resumed(url: str, partial: Path, etag: Path) -> tuple[Any, int] | None:
    """An answer for the rest of the file and how much is there already, or None to start over."""
    done = partial.stat().st_size
    tag = etag.read_text("utf-8") if etag.exists() else ""
    # A weak tag vouches for the meaning of a file, not for its bytes.
    if not done or not tag or tag.startswith("W/"):
        return None
    try:
        response = _opened(url, {"Range": f"bytes={done}-", "If-Range": tag})
    # 416, say: there is nothing after `done`.
    except HTTPError as error:
        error.close()
        return None
    # The whole file: it has changed, or the server knows no ranges.
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
    """Follows redirects to HTTPS only."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if not newurl.lower().startswith("https://"):
            fp.close()
            raise URLError(f"the server redirects to {newurl!r}, which is not HTTPS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
