"""A backend of all engines of a bundle for one library, precision and form."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.errors import BackendError
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.cuda import DeviceArray
from maxim_deploy.spec.engines import EngineEntry, engine_for
from maxim_deploy.spec.profiles import Shape


class EngineSet(Backend):
    """Chooses an engine for each shape and opens it on first use.

    A profile for exactly this shape comes before a range, and a tight range before a wide one.

    Args:
        entries: engines of one library, precision and form; at least one. The first is opened at
            once.
        open_engine: opens the backend of an engine.

    Raises:
        BackendError: as `open_engine` does.
    """

    def __init__(
        self, entries: Sequence[EngineEntry], open_engine: Callable[[EngineEntry], Backend]
    ) -> None:
        self._entries, self._open_engine = tuple(entries), open_engine
        self._opened: dict[str, Backend] = {}
        self._lock = threading.Lock()
        first = self._backend(self._entries[0])
        self.name, self.device, self.library = first.name, first.device, first.library
        self.precision, self.io = first.precision, first.io
        self.lanes, self.batch_pixels = first.lanes, first.batch_pixels
        self.uses_host_memory, self.warmup_runs = first.uses_host_memory, first.warmup_runs
        self.profiles = tuple(profile for entry in self._entries for profile in entry.profiles)

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """As `Backend.run`, with the engine for this shape. Raises BackendError without one."""
        return self._for(Shape.from_dims(image.shape, self.io)).run(image)

    def device_array(self, array: Any) -> DeviceArray:
        """As `Backend.device_array`. All engines are on one GPU."""
        return self._backend(self._entries[0]).device_array(array)

    def run_on_device(self, image: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
        """As `Backend.run_on_device`, with the engine for this shape."""
        return self._for(Shape.from_dims(image.shape, self.io)).run_on_device(image, out)

    def takes(self, shape: Shape) -> bool:
        """Whether an engine has a profile for the shape."""
        return engine_for(self._entries, shape) is not None

    def bytes_for(self, shape: Shape) -> int:
        """As `Backend.bytes_for`, of the engine for this shape.

        Before the engine is opened, the builder's figures are used: callers may only ask.
        """
        entry = self._entry_for(shape)
        with self._lock:
            unopened = entry.file not in self._opened
        estimate = entry.bytes_for(shape) if unopened else None
        return self._backend(entry).bytes_for(shape) if estimate is None else estimate

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`, of the engines that are open."""
        # Without the lock, which is held while an engine is loaded.
        return tuple(note for backend in list(self._opened.values()) for note in backend.notes)

    def free_bytes(self) -> int | None:
        """As `Backend.free_bytes`."""
        return self._backend(self._entries[0]).free_bytes()

    def held_bytes(self) -> int:
        """As `Backend.held_bytes`, of the engines that are open."""
        with self._lock:
            return sum(backend.held_bytes() for backend in self._opened.values())

    def release(self) -> None:
        """As `Backend.release`, of the engines that are open."""
        for backend in list(self._opened.values()):
            backend.release()

    def close(self) -> None:
        """Close every engine that was opened."""
        # Closed outside the lock: an engine waits for its runs, but other callers need not.
        with self._lock:
            opened, self._opened = self._opened, {}
        for backend in opened.values():
            backend.close()

    def _for(self, shape: Shape) -> Backend:
        return self._backend(self._entry_for(shape))

    def _entry_for(self, shape: Shape) -> EngineEntry:
        found = engine_for(self._entries, shape)
        if found is None:
            raise BackendError(f"no engine of {self.name} accepts {shape}; available: {self.sizes}")
        return found[0]

    def _backend(self, entry: EngineEntry) -> Backend:
        # Under the lock: two threads would otherwise load an engine twice, and one would stay open.
        with self._lock:
            if entry.file not in self._opened:
                self._opened[entry.file] = self._open_engine(entry)
            return self._opened[entry.file]
