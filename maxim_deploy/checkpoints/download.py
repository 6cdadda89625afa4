"""Published checkpoints, fetched once and kept.

    <cache>/<model name>/checkpoint.npz
    <cache>/<model name>/checkpoint.npz.sha256         as `sha256sum` writes it
    <cache>/<model name>/checkpoint.npz.partial        while it is not complete
    <cache>/<model name>/checkpoint.npz.partial.etag   which version of the file that is a part of

The authors publish no hashes. So the hash of the first complete download is written down, and every
later use is compared with it. What is not checked: whether the first download is what they uploaded
(HTTPS vouches for the server alone). Two processes must not download the same model at once.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy._files import make_folder, replace_durably, sha256_of, write_text
from maxim_deploy.checkpoints.transfer import ByteProgress, fetch
from maxim_deploy.errors import DownloadError
from maxim_deploy.machine.cache import CACHE_VARIABLE, cache_folder

if TYPE_CHECKING:
    from maxim_deploy.spec.models import PublishedModel

FILE = "checkpoint.npz"
_log = logging.getLogger(__name__)


def download(
    model: PublishedModel, *, folder: Path | None = None, progress: ByteProgress | None = None
) -> Path:
    """The local file of a published checkpoint, downloaded if it is not there yet.

    An interrupted download is resumed by the next call. A file that was put there by hand is
    accepted and its hash written down.

    Args:
        model: which one.
        folder: the cache to use instead of `cache_folder()`.
        progress: called as the bytes come in.

    Raises:
        DownloadError: no answer, not the file, the file changed since its first use, or the cache
            cannot be written.
    """
    path = (folder or cache_folder()) / model.name / FILE
    partial = path.with_name(f"{FILE}.partial")
    try:
        if path.exists():
            return _unchanged(path)
        make_folder(path.parent)
        partial.touch()
    except OSError as error:
        raise DownloadError(
            f"cannot use the cache folder {str(path.parent)!r}: {error}. Set {CACHE_VARIABLE} to a "
            "folder that can be written, or pass --checkpoint FILE"
        ) from error
    try:
        _log.info("downloading %s to %s", model.url, path)
        fetch(model.url, partial, progress)
        # A proxy or a hotel's network answers with a page of its own, and "200 OK".
        if not zipfile.is_zipfile(partial):
            size = partial.stat().st_size
            partial.unlink()
            raise ConnectionError(f"the {size:,} bytes that came are not an .npz file")
        # The hash first: after a kill in between the next call downloads again. In the other order
        # it would find a file without a hash, and take it as one that was put there by hand.
        _record(path, sha256_of(partial))
        replace_durably(partial, path)
    except OSError as error:
        raise DownloadError(
            f"cannot download {model.url}: {error}. Run again to go on from there; "
            f"or fetch the file some other way and put it at {str(path)!r}; "
            "or pass --checkpoint FILE"
        ) from error
    return path


def _unchanged(path: Path) -> Path:
    """`path`, after comparing it with its recorded hash, or recording that if there is none."""
    found, record = sha256_of(path), _hash_file(path)
    if not record.exists():
        _log.info("%s has no recorded hash and is taken as it is", path)
        _record(path, found)
        return path
    recorded = record.read_text("utf-8").partition(" ")[0]
    if found != recorded:
        raise DownloadError(
            f"{str(path)!r} has changed since it was first used: its SHA-256 is {found}, recorded "
            f"is {recorded}. Delete both {FILE!r} and {record.name!r} there to download it again, "
            "or only the latter to accept the file as it is"
        )
    return path


def _record(path: Path, digest: str) -> None:
    write_text(_hash_file(path), f"{digest}  {path.name}\n")
    _log.info("%s: SHA-256 %s", path, digest)


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
