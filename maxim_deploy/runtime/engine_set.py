"""All engines of a bundle for one library, precision and form, as one backend."""

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
    """Chooses the engine for each shape, and opens it when it is first needed.

    An engine with a profile for just this shape
    comes before one with a range, a tight range before a wide one.

    Args:
        entries: of one library, precision and form; at least one. The first is opened at once.
        open_engine: makes the backend of one.

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
        """As `Backend.run`, on the engine for this shape. Raises BackendError if there is none."""
        return self._for(Shape.from_dims(image.shape, self.io)).run(image)

    def device_array(self, array: Any) -> DeviceArray:
        """As `Backend.device_array`; all engines are on one GPU."""
        return self._backend(self._entries[0]).device_array(array)

    def run_on_device(self, image: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
        """As `Backend.run_on_device`, on the engine for this shape."""
        return self._for(Shape.from_dims(image.shape, self.io)).run_on_device(image, out)

    def takes(self, shape: Shape) -> bool:
        """Whether some engine has a profile for the shape."""
        return engine_for(self._entries, shape) is not None

    def bytes_for(self, shape: Shape) -> int:
        """As `Backend.bytes_for`, of the engine for this shape.

        By its builder's figures until it is opened: who asks need not run it.
        """
        entry = self._entry_for(shape)
        with self._lock:
            unopened = entry.file not in self._opened
        estimate = entry.bytes_for(shape) if unopened else None
        return self._backend(entry).bytes_for(shape) if estimate is None else estimate

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`, of the engines that are open."""
        # Without the lock, which is held as long as an engine takes to load.
        return tuple(note for backend in list(self._opened.values()) for note in backend.notes)

    def free_bytes(self) -> int | None:
        """As `Backend.free_bytes`."""
        return self._backend(self._entries[0]).free_bytes()

    def held_bytes(self) -> int:
        """As `Backend.held_bytes`, of the engines that are open."""
        with self._lock:
            return sum(backend.held_bytes() for backend in self._opened.values())

    def close(self) -> None:
        """Close every engine that was opened."""
        # Closed outside the lock: an engine waits for its runs, and other callers need not.
        with self._lock:
            opened, self._opened = self._opened, {}
        for backend in opened.values():
            backend.close()

    def _for(self, shape: Shape) -> Backend:
        return self._backend(self._entry_for(shape))

    def _entry_for(self, shape: Shape) -> EngineEntry:
        found = engine_for(self._entries, shape)
        if found is None:
            raise BackendError(f"no engine of {self.name} takes {shape}; there is: {self.sizes}")
        return found[0]

    def _backend(self, entry: EngineEntry) -> Backend:
        # Under the lock, or two threads would load one engine twice, and one stay open.
        with self._lock:
            if entry.file not in self._opened:
                self._opened[entry.file] = self._open_engine(entry)
            return self._opened[entry.file]
