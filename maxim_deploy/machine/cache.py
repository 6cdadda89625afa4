"""Where downloads are kept, and what was made for measurements."""

from __future__ import annotations

import os
from pathlib import Path

from maxim_deploy._optional import require

CACHE_VARIABLE = "MAXIM_DEPLOY_CACHE"


def cache_folder() -> Path:
    """`MAXIM_DEPLOY_CACHE` if set, else the user's cache directory. It may not exist yet.

    Raises:
        MissingDependencyError: the variable is not set and platformdirs, which knows the user's
            directory, is not installed.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    platformdirs = require("platformdirs", "export")
    return Path(platformdirs.user_cache_dir("maxim-deploy", appauthor=False))
