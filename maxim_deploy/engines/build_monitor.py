"""Progress and cancellation of a build."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class BuildStep:
    """The progress of a build.

    Attributes:
        phases: names of the current phases, the outermost first.
        done: finished steps of the innermost phase.
        total: steps of that phase.
    """

    phases: tuple[str, ...]
    done: int
    total: int


class Stop:
    """Tells a build to end early: on `cancel`, or when its time is up."""

    def __init__(self, seconds: float | None = None) -> None:
        self._until = None if seconds is None else time.monotonic() + seconds
        # Set by the main thread, and read by the builder's threads.
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Tell the build to end at its next step."""
        self._cancelled.set()

    @property
    def out_of_time(self) -> bool:
        """Whether the time is up."""
        return self._until is not None and time.monotonic() > self._until

    @property
    def wanted(self) -> bool:
        """Whether the build should end."""
        return self._cancelled.is_set() or self.out_of_time


def progress_monitor(trt: ModuleType, progress: Callable[[BuildStep], None], stop: Stop) -> Any:
    """A `trt.IProgressMonitor` that reports each step and ends the build if `stop` says so.

    The library calls it from several threads.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]  # known at run time
        def __init__(self) -> None:
            super().__init__()
            self._lock = threading.Lock()
            self._open: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                # A step names only its own phase, and phases nest, so parents are kept here.
                self._open[phase_name] = (parent_phase, num_steps)
                progress(BuildStep(self._path(phase_name), 0, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                _, total = self._open.get(phase_name, (None, step + 1))
                progress(BuildStep(self._path(phase_name), step + 1, total))
            return not stop.wanted

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._open.pop(phase_name, None)

        def _path(self, phase: str) -> tuple[str, ...]:
            path, name = [phase], self._open.get(phase, (None, 0))[0]
            # A cycle of parents, which only the library could make, must not block a build.
            while name is not None and name not in path:
                path.append(name)
                name = self._open.get(name, (None, 0))[0]
            return tuple(reversed(path))

    return Monitor()
