"""ONNX Runtime on the CPU, in as little memory as it can do with, and in memory that is known.

By default each session has an arena that grows by powers of two, cuts its blocks to whatever comes
and never gives one back: the same run takes 15 % more or less from one size to the next, 15 % more
the second time, and after a smaller image the memory of both. So all sessions made here share one
arena (threads that run two of them at a time share it too) that asks the system for exactly what a
tensor needs, and that is emptied before a run larger than those that it has grown with.
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
"""`log_severity_level`: errors are raised, and printing them as well would say them twice."""

_AS_REQUESTED = 1
"""`arena_extend_strategy`: a block for what is asked for, rather than the next power of two."""

_YES = ("1", "true", "yes", "y", "on")
"""Values that ONNX Runtime takes for yes; any other is a no."""


def cpu_session(
    graph: Path,
    threads: int | None = None,
    *,
    in_file_order: bool = False,
    spinning: bool = True,
) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        graph: the ONNX file, its weights beside it. ONNX Runtime maps these: the file may be
            removed when this returns.
        threads: threads within one operator, or None for one per usable processor.
        in_file_order: run the nodes as the file has them, rather than in ONNX Runtime's own order.
        spinning: whether threads wait for each other in a loop, which is fast, or asleep, which
            leaves the processor to others.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        Exception: ONNX Runtime cannot load the graph; it raises a dozen unrelated classes.
    """
    ort = require("onnxruntime", "cpu")
    options = session_options(ort, threads, spinning=spinning)
    if in_file_order:
        # Products and their sums are nodes of their own. ONNX Runtime's order computes products
        # long before their sums, and keeps them all: 27 % more memory for the demo model.
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    # 25 MB of loading S-2 in float16 would else stay, or be counted as of the first run.
    trim()
    return session


def telemetry(version: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """What ONNX Runtime tells its maker about this process, in words; None for nothing.

    Args:
        version: of ONNX Runtime; those before 1.32 tell nothing.
        environment: in which it was imported.
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
    """The `onnxruntime.SessionOptions` of every session on the CPU; they join the arena.

    Args:
        ort: the module `onnxruntime`.
        threads: as of `cpu_session`.
        spinning: as of `cpu_session`.
    """
    options = ort.SessionOptions()
    # The buffer-reuse planner chains buffers that then live to the end of a run: 9.2 kB per pixel
    # instead of 2.7, for no speed. The arena, which recycles them, stays on.
    options.enable_mem_reuse = False
    # A memory pattern is a second plan, made on the first run and allocated beside the arena on the
    # next one of the same shape: twice the memory, for no speed.
    options.enable_mem_pattern = False
    options.intra_op_num_threads = threads_to_ask_for(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.log_severity_level = FATAL_ONLY
    arena_of_this_process().join(options)
    return options


class Arena:
    """The arena that this process's sessions share. Thread-safe.

    Where an application has registered an allocator with ONNX Runtime already and that refuses
    another, sessions have their own as by default, and nothing here has an effect.

    Attributes:
        held_bytes: about what it keeps from earlier runs, and gives to the next.
    """

    def __init__(self, ort: ModuleType) -> None:
        self.held_bytes = 0
        self._ort, self._users, self._is_registered = ort, 0, False
        self._running = 0
        # The garbage collector may call `_leave` in a thread that is in here already.
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
        """Let the session that is made with these `onnxruntime.SessionOptions` use the arena."""
        if self._is_registered:
            options.add_session_config_entry("session.use_env_allocators", "1")

    def after_fork(self) -> None:
        """The child has the arena, and none of the threads of the session that empties it."""
        self._lock, self._running = threading.RLock(), 0
        never_destroy(self._releaser)
        self._releaser = None

    def keep_for(self, user: object) -> weakref.finalize[Any, Any]:
        """Keep memory while `user` lives or until the result is called; the last one frees it."""
        with self._lock:
            self._users += 1
        leave = weakref.finalize(user, self._leave)
        # At its end the process gives everything back by itself.
        leave.atexit = False
        return leave

    @contextlib.contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Run in the block what takes about `size` bytes; others may run beside it."""
        with self._lock:
            self._running += size
            # All together: what the arena keeps afterwards is as much as they took side by side.
            self.make_room(self._running)
        try:
            yield
        finally:
            with self._lock:
                self._running -= size

    def make_room(self, size: int) -> None:
        """Call before runs of about `size` bytes. Blocks of smaller runs are too small for them."""
        with self._lock:
            # The arena's blocks are as large as earlier tensors. A larger run fits into none of
            # them, and would take its memory on top of theirs.
            if size > self.held_bytes:
                self._release()
                self.held_bytes = size

    def forget(self) -> None:
        """Give back what no run uses; also after one that ran out of memory, and took who knows."""
        with self._lock:
            self._release()
            self.held_bytes = self._running

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self.forget()

    def _release(self) -> None:
        """Give back what no run uses now: blocks go at the end of a run that is told to."""
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
    """The one arena; made at the first call.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    # Two threads that miss a cache at once both make the value, and a second arena is refused.
    with _making:
        return _made()


@functools.cache
def _made() -> Arena:
    return Arena(require("onnxruntime", "cpu"))
