"""The cache folder for downloads, benchmark artefacts and measurements."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from maxim_deploy._files import atomic_file
from maxim_deploy._optional import require
from maxim_deploy._reading import opens_no_link
from maxim_deploy.errors import UsageError

CACHE_VARIABLE = "MAXIM_DEPLOY_CACHE"

_KEY_BYTES = 32


def cache_folder() -> Path:
    """`MAXIM_DEPLOY_CACHE` if set, else the user's cache directory. It may not exist yet.

    Raises:
        MissingDependencyError: the variable is not set, and platformdirs, which finds the user's
            cache directory, is not installed.
        UsageError: other users can write to the folder and replace files in it.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return not_for_everybody(Path(chosen).expanduser())
    platformdirs = require("platformdirs", "cpu")
    return not_for_everybody(Path(platformdirs.user_cache_dir("maxim-deploy", appauthor=False)))


def not_for_everybody(folder: Path) -> Path:
    """Return the folder unless other users can replace its files. It need not exist.

    With the sticky bit, as on `/tmp`, only the owner can replace a file.

    Raises:
        UsageError: other users can.
    """
    try:
        mode = folder.stat().st_mode
    except OSError:  # it does not exist, or its user reports the problem
        return folder
    # Windows keeps permissions elsewhere and shows every folder as writable by all.
    if os.name != "nt" and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UsageError(
            f"cache folder {str(folder)!r} | other users can write to it (mode "
            f"{stat.S_IMODE(mode):o}) | expected a private folder: run chmod o-w {folder}, or set "
            f"{CACHE_VARIABLE} to another one"
        )
    return folder


def user_key() -> bytes:
    """A secret key of this user in the cache folder. The first call makes it.

    A signature with it proves that this user wrote a file.

    Raises:
        MissingDependencyError, UsageError: as `cache_folder`.
        OSError: it cannot be read or written.
    """
    path = cache_folder() / "key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, follow=False) as file:
            Path(file.name).chmod(0o600)
            file.write(secrets.token_bytes(_KEY_BYTES))
    with open(path, "rb", opener=opens_no_link) as file:
        key = file.read(_KEY_BYTES)
    if len(key) < _KEY_BYTES:
        raise OSError(f"{str(path)!r} is not a key of maxim-deploy; delete it")
    return key
