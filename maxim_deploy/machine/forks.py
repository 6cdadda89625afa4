"""Repair objects in a forked child, which has only the thread that forked.

In the child, locks of other threads stay held, and pools have no threads. Servers that preload fork
after loading, such as gunicorn with `--preload`; `multiprocessing` with the method "fork" does too.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """An object that a forked child must repair before use."""

    def after_fork(self) -> None:
        """Repair the object. Called in the child before any other code."""


def tell_children_of(owner: Inherited) -> None:
    """Call `owner.after_fork` in each child that is forked while `owner` lives."""
    _owners.add(owner)


def never_destroy(thing: object) -> None:
    """Keep `thing` for ever: its destructor would wait for threads that do not exist."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_owners: weakref.WeakSet[Inherited] = weakref.WeakSet()


def _tell_all() -> None:
    for owner in list(_owners):
        owner.after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_tell_all)
