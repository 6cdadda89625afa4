"""Where downloads are kept, what was made for measurements, and what they found."""

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
        MissingDependencyError: the variable is not set and platformdirs, which knows the user's
            directory, is not installed.
        UsageError: everybody can write to the folder, and replace what is in it.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return not_for_everybody(Path(chosen).expanduser())
    platformdirs = require("platformdirs", "cpu")
    return not_for_everybody(Path(platformdirs.user_cache_dir("maxim-deploy", appauthor=False)))


def not_for_everybody(folder: Path) -> Path:
    """The folder, which need not exist, unless everybody can replace the files in it.

    With the sticky bit, as `/tmp` has it, only the owner of a file can.

    Raises:
        UsageError: they can.
    """
    try:
        mode = folder.stat().st_mode
    except OSError:  # it is not there, or whoever uses it says what is wrong
        return folder
    # Windows keeps permissions elsewhere, and shows every folder as one for everybody.
    if os.name != "nt" and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UsageError(
            f"cache folder {str(folder)!r} | everybody can write to it (mode "
            f"{stat.S_IMODE(mode):o}) | expected a folder of yours: chmod o-w {folder}, or set "
            f"{CACHE_VARIABLE} to another one"
        )
    return folder


def user_key() -> bytes:
    """A secret of this user's, in the cache folder; made at the first call.

    With it a file can be told that this user wrote, wherever it lies.

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
        raise OSError(f"{str(path)!r} is no key of ours; delete it")
    return key
