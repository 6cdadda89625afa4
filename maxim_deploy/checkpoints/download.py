"""Download published checkpoints once and keep them.

    <cache>/<model name>/checkpoint.npz
    <cache>/<model name>/checkpoint.npz.sha256         as `sha256sum` writes it
    <cache>/<model name>/checkpoint.npz.partial        while it is not complete
    <cache>/<model name>/checkpoint.npz.partial.etag   which version of the file that is a part of
    <cache>/.<model name>.lock                         held by the process that downloads it

A file is compared with the caller's SHA-256, or else with `PublishedModel.sha256`. Without either,
the first download is trusted and a message says so: HTTPS authenticates the server, and the
server's hash verifies the transfer. Once the weights have been accepted, the file's hash is
recorded, and every later use is compared with it.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy._files import (
    make_folder,
    replace_durably,
    sha256_of,
    write_text,
)
from maxim_deploy._reading import opens_no_link
from maxim_deploy.checkpoints.transfer import ByteProgress, check_stated, fetch
from maxim_deploy.errors import DownloadError
from maxim_deploy.machine.cache import CACHE_VARIABLE, cache_folder, not_for_everybody
from maxim_deploy.machine.file_locks import file_lock

if TYPE_CHECKING:
    from maxim_deploy.spec.models import PublishedModel

FILE = "checkpoint.npz"
_log = logging.getLogger(__name__)


def download(
    model: PublishedModel,
    *,
    folder: Path | None = None,
    progress: ByteProgress | None = None,
    sha256: str | None = None,
) -> Path:
    """The local file of a checkpoint, as `downloaded`, without a check of its weights."""
    with downloaded(model, folder=folder, progress=progress, sha256=sha256) as path:
        return path


@contextmanager
def downloaded(
    model: PublishedModel,
    *,
    folder: Path | None = None,
    progress: ByteProgress | None = None,
    sha256: str | None = None,
) -> Iterator[Path]:
    """The local file of a published checkpoint, downloaded on first use.

    Its hash is recorded when the block ends without an exception. The next call resumes an
    interrupted download, and a second process waits for the first. A file placed there by hand is
    accepted.

    Args:
        model: the published model.
        folder: the cache to use instead of `cache_folder()`.
        progress: called as bytes arrive.
        sha256: required hash of the file, 64 hexadecimal digits; None for the model's, if known.

    Raises:
        DownloadError: the server did not answer or sent another file, the file has changed since
            its first use, or the cache cannot be written.
        UsageError: other users can write to the cache.
    """
    cache = not_for_everybody(folder or cache_folder())
    path = not_for_everybody(cache / model.name) / FILE
    expected = sha256 or model.sha256
    with _alone(path):
        stated = "" if path.exists() else _fetched(model, path, progress, expected)
        digest = _unchanged(path, expected)
        yield path
        if not _hash_file(path).exists():
            if not expected:
                _announce(path, digest, stated)
            _record(path, digest)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Exclude other processes from this file in the block.

    The system frees the lock of a killed one.
    """
    model = path.parent

    def waiting() -> None:
        _log.info("waiting for another process that downloads %s", path)

    with ExitStack() as stack:
        try:
            make_folder(model)
            lock = model.parent / f".{model.name}.lock"
            stack.enter_context(file_lock(lock, waiting, extra="export"))
        except OSError as error:
            raise _no_cache(path, error) from error
        yield


def _fetched(
    model: PublishedModel, path: Path, progress: ByteProgress | None, expected: str | None
) -> str:
    """Download to a new path. Returns the kinds of hashes that the server stated, in words."""
    partial = path.with_name(f"{FILE}.partial")
    try:
        # A link is not our partial file, and may lead anywhere.
        if partial.is_symlink():
            partial.unlink()
        partial.touch()
    except OSError as error:
        raise _no_cache(path, error) from error
    try:
        _log.info("downloading %s to %s", model.url, path)
        stated = fetch(model.url, partial, progress)
        # A proxy or a hotel network may answer with its own page and "200 OK".
        if not zipfile.is_zipfile(partial):
            size = partial.stat().st_size
            partial.unlink()
            raise ConnectionError(f"the {size:,} bytes that came are not an .npz file")
        named = check_stated(partial, stated)
        found = sha256_of(partial)
        if expected and found != expected:
            partial.unlink()
            raise ConnectionError(f"its SHA-256 is {found}, expected is {expected}")
        # The record of an earlier file, which no longer exists.
        _hash_file(path).unlink(missing_ok=True)
        replace_durably(partial, path)
    except OSError as error:
        raise DownloadError(
            f"cannot download {model.url}: {error}. Run again to resume; or download the file by "
            f"other means to {str(path)!r}; or pass --checkpoint FILE"
        ) from error
    return named


def _no_cache(path: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"cannot use the cache folder {str(path.parent)!r}: {error}. Set {CACHE_VARIABLE} to a "
        "writable folder, or pass --checkpoint FILE"
    )


def _unchanged(path: Path, expected: str | None) -> str:
    """The hash of the file, after comparing it with the expected and the recorded hash."""
    found, record = sha256_of(path), _hash_file(path)
    if expected and found != expected:
        raise DownloadError(
            f"{str(path)!r} is another file: its SHA-256 is {found}, expected is {expected}. "
            "Delete it to download it again"
        )
    try:
        with open(record, encoding="utf-8", opener=opens_no_link) as file:
            recorded = file.read(_LONGEST_RECORD).partition(" ")[0]
    except FileNotFoundError:
        return found
    except (OSError, UnicodeDecodeError) as error:
        raise DownloadError(f"cannot read {str(record)!r}: {error}") from error
    if found != recorded:
        raise DownloadError(
            f"{str(path)!r} has changed since it was first used: its SHA-256 is {found}, recorded "
            f"is {recorded}. Delete both {FILE!r} and {record.name!r} there to download it again, "
            "or only the second to accept the file as it is"
        )
    return found


_LONGEST_RECORD = 4096


def _announce(path: Path, digest: str, stated: str) -> None:
    _log.warning(
        "%s is trusted on first use, because its SHA-256 was not known before%s. Later uses are "
        "compared with %s; compare it with a trusted source, or pin it with --sha256",
        path, f"; it matches the server's {stated}" if stated else "", digest,
    )  # fmt: skip


def _record(path: Path, digest: str) -> None:
    try:
        write_text(_hash_file(path), f"{digest}  {path.name}\n", follow=False)
    except OSError as error:
        raise _no_cache(path, error) from error
    _log.info("%s: SHA-256 %s", path, digest)


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
