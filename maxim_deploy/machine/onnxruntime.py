"""ONNX Runtime on the CPU, in little memory and with a predictable peak.

By default each session has an arena that grows by powers of two, splits its blocks as needed and
never returns one. The memory of a run then varies by 15 % between similar sizes and grows by 15 %
on the second run, and after a smaller image the memory of both is held. So all sessions made here
share one arena, also when several run at a time. It asks the system for exactly what a tensor
needs, and is emptied before a run that is larger than earlier ones.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maxim_deploy._optional import ENVIRONMENT, require
from maxim_deploy.machine.forks import never_destroy, tell_children_of
from maxim_deploy.machine.memory import trim
from maxim_deploy.machine.processors import threads_to_ask_for
from maxim_deploy.machine.tiny_graph import TINY_GRAPH

FATAL_ONLY = 4
"""`log_severity_level`: errors are raised, so ONNX Runtime need not print them too."""

_AS_REQUESTED = 1
"""`arena_extend_strategy`: blocks have the requested size rather than the next power of two."""

_YES = ("1", "true", "yes", "y", "on")
"""Values that ONNX Runtime reads as yes. Any other value is a no."""


def cpu_session(
    graph: Path,
    threads: int | None = None,
    *,
    in_file_order: bool = False,
    spinning: bool = True,
) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        graph: the ONNX file, with its weights beside it. ONNX Runtime maps the weights, so the
            files may be removed when this returns.
        threads: threads within one operator, or None for one per usable processor.
        in_file_order: run the nodes in the file's order rather than in ONNX Runtime's own.
        spinning: whether threads wait in a loop, which is faster, or asleep, which leaves the
            processor to other programs.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        Exception: ONNX Runtime cannot load the graph; it raises a dozen unrelated classes.
    """
    ort = require("onnxruntime", "cpu")
    options = session_options(ort, threads, spinning=spinning)
    if in_file_order:
        # Products and their sums are separate nodes. ONNX Runtime's order computes products long
        # before their sums and keeps them all: 27 % more memory for the demo model.
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    # Otherwise 25 MB from loading S-2 in float16 would stay, or count for the first run.
    trim()
    return session


def telemetry(version: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """What ONNX Runtime reports to its maker about this process, in words; None for nothing.

    Args:
        version: version of ONNX Runtime. Those before 1.32 report nothing.
        environment: environment variables at its import.
    """
    variable, off = ENVIRONMENT["onnxruntime"]
    asked = environment.get(variable)
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers < (1, 32) or (asked or "").lower() in _YES:
        return None
    why = "it was imported before maxim-deploy" if asked is None else f"{variable} is {asked!r}"
    return (
        f"ONNX Runtime {version} stores a device identifier and events in the home folder and "
        f"sends them to its maker: {why}; set {variable}={off} before the first import of "
        "onnxruntime"
    )


def session_options(ort: ModuleType, threads: int | None = None, *, spinning: bool = True) -> Any:
    """The `onnxruntime.SessionOptions` of every session on the CPU. Its sessions use the arena.

    Args:
        ort: the module `onnxruntime`.
        threads: threads within one operator; None for one per core.
        spinning: whether threads wait in a loop rather than asleep.
    """
    options = ort.SessionOptions()
    # The buffer-reuse planner chains buffers, which then live to the end of a run: 9.2 kB per pixel
    # instead of 2.7, without a gain in speed. The arena, which recycles buffers, stays on.
    options.enable_mem_reuse = False
    # A memory pattern is made on the first run and allocated beside the arena on the next run of
    # the same shape: twice the memory, without a gain in speed.
    options.enable_mem_pattern = False
    options.intra_op_num_threads = threads_to_ask_for(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.log_severity_level = FATAL_ONLY
    arena_of_this_process().join(options)
    return options


class Arena:
    """The arena shared by all sessions of this process. Thread-safe.

    If the application has already registered an allocator with ONNX Runtime, ONNX Runtime refuses
    another. Sessions then have their own arenas, and this class has no effect.

    Attributes:
        held_bytes: approximate memory that it keeps from earlier runs for later ones.
    """

    def __init__(self, ort: ModuleType) -> None:
        self.held_bytes = 0
        self._ort, self._users, self._is_registered = ort, 0, False
        self._running = 0
        # The garbage collector may call `_leave` in a thread that already holds this lock.
        self._lock = threading.RLock()
        self._releaser: Any = None
        where = ("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        config = ort.OrtArenaCfg({"arena_extend_strategy": _AS_REQUESTED})
        try:
            ort.create_and_register_allocator(ort.OrtMemoryInfo(*where), config)
        # ONNX Runtime's own class of this name is not public.
        except Exception:
            return
        self._is_registered = True
        tell_children_of(self)

    def join(self, options: Any) -> None:
        """Let sessions made with these `onnxruntime.SessionOptions` use the arena."""
        if self._is_registered:
            options.add_session_config_entry("session.use_env_allocators", "1")

    def after_fork(self) -> None:
        """The child has the arena, but not the threads of the session that empties it."""
        self._lock, self._running = threading.RLock(), 0
        never_destroy(self._releaser)
        self._releaser = None

    def keep_for(self, user: object) -> weakref.finalize[Any, Any]:
        """Keep memory while `user` lives or until the result is called. The last user frees it."""
        with self._lock:
            self._users += 1
        leave = weakref.finalize(user, self._leave)
        # A process that ends frees everything anyway.
        leave.atexit = False
        return leave

    @contextlib.contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Run work of about `size` bytes in the block. Other work may run at the same time."""
        with self._lock:
            self._running += size
            # Summed, because the arena keeps as much as concurrent runs took together.
            self.make_room(self._running)
        try:
            yield
        finally:
            with self._lock:
                self._running -= size

    def make_room(self, size: int) -> None:
        """Prepare for runs of about `size` bytes. Blocks of smaller runs are too small for them."""
        with self._lock:
            # The arena's blocks have the sizes of earlier tensors. A larger run fits none of them
            # and would add its memory to theirs.
            if size > self.held_bytes:
                self._release()
                self.held_bytes = size

    def forget(self) -> None:
        """Free what no run uses.

        Also called after a run out of memory, which took an unknown amount.
        """
        with self._lock:
            self._release()
            self.held_bytes = self._running

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self.forget()

    def _release(self) -> None:
        """Free what no run uses now.

        ONNX Runtime frees blocks at the end of a run with this option.
        """
        if not self._is_registered:
            return
        if self._releaser is None:
            options = self._ort.SessionOptions()
            self.join(options)
            providers = ["CPUExecutionProvider"]
            self._releaser = self._ort.InferenceSession(TINY_GRAPH, options, providers=providers)
        shrinking = self._ort.RunOptions()
        shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._releaser.run(None, {"image": np.zeros((1, 3, 4, 4), np.float32)}, shrinking)
        trim()


_making = threading.Lock()


def arena_of_this_process() -> Arena:
    """The only arena. The first call makes it.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    # Two threads that miss a cache at once would both make an arena, and the second is refused.
    with _making:
        return _made()


@functools.cache
def _made() -> Arena:
    return Arena(require("onnxruntime", "cpu"))
