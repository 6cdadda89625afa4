"""Backends by name that the runtime does not contain.

`backend="auto"` never takes one of these. A room above the runtime is named here rather than
imported, and imported when somebody asks for it: the runtime itself never needs PyTorch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from maxim_deploy.errors import MissingDependencyError, UsageError, unknown

Opener = Callable[[Any], Any]
"""From a `maxim_deploy.runtime.selection.Request` to a `maxim_deploy.runtime.backend.Backend`."""

_MODULES = {"torch": ("maxim_deploy.parity.torch_backend", "export")}
"""By name, a module that has `open_backend`, and the extra that it needs."""

_registered: dict[str, Opener] = {}


def register_backend(name: str, opener: Opener) -> None:
    """Let `maxim_deploy.load(bundle, backend=name)` open a backend of your own.

    Args:
        name: a new one.
        opener: from a `Request` to a `Backend`. What it raises, `load` raises.

    Raises:
        UsageError: the name is taken.

    Example:
        >>> from maxim_deploy.runtime.registry import register_backend, registered_names
        >>> register_backend("mine", lambda request: print(request.precision))
        >>> registered_names()
        ('torch', 'mine')
        >>> register_backend("torch", print)
        Traceback (most recent call last):
        maxim_deploy.errors.UsageError: there is a backend 'torch' already
    """
    from maxim_deploy.runtime.selection import OPENERS

    if name in (*OPENERS, *registered_names(), "auto"):
        raise UsageError(f"there is a backend {name!r} already")
    _registered[name] = opener


def registered_names() -> tuple[str, ...]:
    """The names that `opener_of` knows."""
    return (*_MODULES, *_registered)


def opener_of(name: str) -> Opener:
    """What opens a backend.

    Raises:
        UsageError: nobody registered such a name.
        MissingDependencyError: what it needs is not installed; the message is the pip line.
    """
    if name in _registered:
        return _registered[name]
    if name not in _MODULES:
        raise UsageError(unknown("backend", name, registered_names()))
    module, extra = _MODULES[name]
    try:
        opener: Opener = importlib.import_module(module).open_backend
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("maxim_deploy"):
            raise
        raise MissingDependencyError(
            f"{error.name} is not installed; run: pip install 'maxim-deploy[{extra}]'"
        ) from error
    return opener
