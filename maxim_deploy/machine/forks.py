"""What a forked child must make anew: it has no thread of its parent's but the one that forked.

Locks that other threads held stay held in the child, and pools have no threads. Servers fork after
loading, such as gunicorn with `--preload`, and so does `multiprocessing` with its method "fork".
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """Something that a child can only use after it has made parts of it anew."""

    def after_fork(self) -> None:
        """Make them anew; called in the child before anything else runs there."""


def tell_children_of(owner: Inherited) -> None:
    """From now on call `owner.after_fork` in each child that is forked while `owner` lives."""
    _owners.add(owner)


def never_destroy(thing: object) -> None:
    """Let `thing` outlive its references: its destructor would wait for threads that are gone."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_owners: weakref.WeakSet[Inherited] = weakref.WeakSet()


def _tell_all() -> None:
    for owner in list(_owners):
        owner.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_tell_all)
