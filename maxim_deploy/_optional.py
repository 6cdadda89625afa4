"""Optional dependencies, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from maxim_deploy.errors import MissingDependencyError


def require(module: str, extra: str) -> ModuleType:
    """The imported `module`.

    Raises:
        MissingDependencyError: it is not installed; the message is the pip line for `extra`.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but misses one of its own is a broken install, not a missing extra.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependencyError(
            f"{module} is not installed; run: pip install 'maxim-deploy[{extra}]'"
        ) from error
