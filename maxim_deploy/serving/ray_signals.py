"""Signals and Ray: this process keeps its handlers, and a cluster of its own hears no signal.

A terminal, Slurm and systemd send a signal to every process of a command. Ray's processes would end
at once, and with them the pictures that workers are to finish.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from maxim_deploy._optional import require

_ENDING = {one for one in signal.Signals if one.name in ("SIGTERM", "SIGHUP")}
"""Ray itself blocks SIGINT."""


@contextmanager
def own_signal_handlers() -> Iterator[None]:
    """Put back the handlers of signals, which Ray replaces by one that exits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def children_without_signals() -> Iterator[None]:
    """Let processes that are started in the block, and theirs, hear no signal that ends them.

    A signal to this process itself is handled at the end of the block, if no other thread gets it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows has no such signals
        yield
        return
    # A process inherits the mask of the thread that starts it. Handlers are not inherited, and Ray
    # replaces ignored signals.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill_at_shutdown() -> None:
    """Let `ray.shutdown` kill the processes of a cluster that was started here.

    It would send each a signal that it does not hear, and wait a second for it. Its workers have
    ended by then, and nothing else is worth keeping. Without these names of Ray's it only waits.
    """
    node = getattr(require("ray._private.worker", "ray"), "_global_node", None)
    for started in getattr(node, "all_processes", {}).values():
        for one in started:
            one.process.terminate = partial(_kill_with_children, one.process)


def _kill_with_children(process: subprocess.Popen[bytes]) -> None:
    psutil = require("psutil", "ray")  # Ray brings its own
    children = []
    with suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    # Agents of a node that is gone would try for a minute to say so.
    for child in children:
        with suppress(psutil.Error):
            child.kill()
