"""URLs in place of paths: recognise them, and show them without secrets."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from maxim_deploy.errors import UsageError, printable

_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?P<rest>.*)", re.IGNORECASE | re.DOTALL)

WEB = frozenset({"http", "https"})
"""Read-only protocols with one object per URL, because a web server lists no objects."""

TESTED = WEB | {"s3"}


def is_url(text: object) -> bool:
    """Whether a text names an object or a prefix in a store, not a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def protocol_of(url: str) -> str:
    """The protocol before "://", in lower case.

    Raises:
        UsageError: the URL is of a kind that is not supported.
    """
    found = _URL.fullmatch(url)
    assert found
    protocol = found["protocol"].lower()
    if "::" in url:
        raise UsageError(f"URL '{shown(url)}' | has several protocols | name one object or prefix")
    if protocol == "file":
        path = unquote(urlsplit(url).path)
        raise UsageError(f"URL '{shown(url)}' | is a local file | give its path: {path}")
    if protocol not in WEB and _has_password(found["rest"]):
        raise UsageError(
            f"URL '{shown(url)}' | contains a password | "
            "set credentials in the environment, as its provider documents"
        )
    return protocol


def shown(url: str) -> str:
    """A URL for messages and records, without user, password and query (it may be a signature)."""
    protocol, _, rest = url.partition("://")
    if protocol.lower() in WEB:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    if protocol.lower() in WEB or _has_password(rest):
        authority = authority.rpartition("@")[2]
    return printable(f"{protocol}://{authority}{slash}{path}")


def name_of(url: str) -> str:
    """The last segment, as the name of a file; empty if there is none."""
    if url.partition("://")[0].lower() in WEB:
        # A decoded slash would turn the name into a path.
        name = unquote(PurePosixPath(urlsplit(url).path).name).replace("/", "_")
        return "" if name in (".", "..") or urlsplit(url).path.endswith("/") else name
    return url.rpartition("/")[2]


def _has_password(rest: str) -> bool:
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return bool(at) and ":" in user
