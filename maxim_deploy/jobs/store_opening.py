"""Turns a URL into an object or prefix, through the file systems of fsspec."""

from __future__ import annotations

import functools
import logging
from typing import Any
from urllib.parse import quote

from maxim_deploy._optional import require
from maxim_deploy.errors import MissingDependencyError, UsageError, nearest
from maxim_deploy.jobs.store_reasons import store_errors
from maxim_deploy.jobs.stores import Store, StoredObject
from maxim_deploy.jobs.urls import TESTED, WEB, protocol_of, shown

logger = logging.getLogger(__name__)


def stored_object(url: str) -> StoredObject:
    """The object or prefix that a URL names. This sends no request to the store.

    Raises:
        UsageError: the protocol is unknown, or the URL does not name one object or prefix.
        MissingDependencyError: the package of the protocol is not installed.
    """
    protocol = protocol_of(url)
    fsspec = require("fsspec", "cloud")
    if protocol == "s3":
        require("s3fs", "cloud")
    elif protocol in WEB:
        # Encoded here, and the library must not encode it again: a signature covers these bytes.
        url = quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    elif protocol not in fsspec.available_protocols():
        hint = nearest(protocol, ("s3", "https", *fsspec.available_protocols()))
        raise UsageError(
            f"URL '{shown(url)}' | unknown protocol '{protocol}'{hint} | expected s3 or https"
        )
    with store_errors(shown(url), "opened"):
        try:
            system, key = fsspec.core.url_to_fs(url, **_options(protocol))
        except ImportError as error:
            raise MissingDependencyError(
                f"URL '{shown(url)}' | a package is missing: {error}"
            ) from None
    return StoredObject(_store(protocol, system), key)


@functools.cache
def _store(protocol: str, system: Any) -> Store:
    """The store of a file system, made once, so that objects compare equal.

    fsspec caches one file system per host.
    """
    if protocol not in TESTED:
        logger.warning("%s:// is not tested with maxim-deploy; s3:// and https:// are", protocol)
    return Store(protocol, system)


def _options(protocol: str) -> dict[str, Any]:
    if protocol not in WEB:
        # A cached listing would miss objects that other runs write in the meantime.
        return {"use_listings_cache": False}
    aiohttp = require("aiohttp", "cloud")
    # No limit for the whole transfer; the default of five minutes is too short for large videos.
    waits = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    # `trust_env` uses the proxies of the environment, as other programs do.
    return {"encoded": True, "client_kwargs": {"timeout": waits, "trust_env": True}}
