"""Backends that stand in for a network, and restorers of them."""

from __future__ import annotations

import threading
import time
from queue import Queue

import numpy as np

from maxim_deploy import BackendError
from maxim_deploy.errors import OutOfMemoryError
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.planning import Planner
from maxim_deploy.runtime.restorer import Restorer
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.profiles import Profile, Shape


class Doubling(Backend):
    """A backend that doubles, 100 bytes per pixel, and runs out of memory above `room` pixels."""

    name, device, library, precision, io = "doubling", "cuda:0", "none 1", "fp32", "tensor"
    batch_pixels: int | None = 0
    uses_host_memory, warmup_runs = False, 2

    def __init__(
        self, room: int = 10**9, profile: Profile | None = None, io: str = "tensor"
    ) -> None:
        self.room, self.profile, self.io = room, profile, io
        self.profiles = (profile,) if profile else ()
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False

    def run(self, image: np.ndarray) -> np.ndarray:
        shape = Shape.from_dims(image.shape, self.io)
        if not self.takes(shape):
            raise BackendError(f"no profile takes {shape}")
        self.shapes.append(image.shape)
        if image.size // 3 > self.room:
            raise OutOfMemoryError(f"no room for {image.shape}")
        return image * 2 if self.io == "tensor" else np.minimum(image, 127) * 2

    def takes(self, shape: Shape) -> bool:
        return self.profile is None or self.profile.takes(shape)

    def bytes_for(self, shape: Shape) -> int:
        return 100 * shape.pixels

    def free_bytes(self) -> int | None:
        return 100 * 4096 * 4096

    def close(self) -> None:
        self.closed = True


def restorer_of(
    backend: Doubling, limit: int | None = None, queue: int | None = None, **options
) -> Restorer:
    info = RestorerInfo(Descriptor("x"), None, "fp32", backend.io, "doubling", "cuda:0", "none 1")
    return Restorer(backend, info, Planner(backend, **options), limit, queue)


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).random((height, width, 3), np.float32)


class Gaining(Doubling):
    """Gains from every image more in a run."""

    batch_pixels = None


class Stoppable(Doubling):
    """Runs on the CPU until it is let go, or its caller is stopped.

    Attributes:
        begun: shapes of runs as they begin.
        let_go: while it is not set, runs go on.
    """

    device, uses_host_memory, takes_turns = "cpu", True, True

    def __init__(self, *, let_go: bool = False, lanes: int = 1, **options) -> None:
        super().__init__(**options)
        self.lanes = lanes
        self.begun: Queue[tuple[int, ...]] = Queue()
        self.let_go = threading.Event()
        self.turns: list[Turn] = []
        if let_go:
            self.let_go.set()

    def run(self, image: np.ndarray, turn: Turn | None = None) -> np.ndarray:
        assert turn is not None
        self.turns.append(turn)
        self.begun.put(image.shape)
        limit = time.monotonic() + 20
        while not self.let_go.wait(0.002):
            turn.stop.raise_if_set()
            assert time.monotonic() < limit, "nobody has let it go"
        return super().run(image)

    def has_begun(self, height: int = 64, width: int = 64) -> None:
        """Wait until a run of one picture of this size has begun."""
        assert self.begun.get(timeout=20) == (1, 3, height, width)


class Laned(Stoppable):
    """Has as many lanes as it is told; counts the runs side by side.

    Attributes:
        most: runs that there were at a time.
    """

    def __init__(self, lanes: int, **options) -> None:
        super().__init__(let_go=True, lanes=lanes, **options)
        self.most = self._running = 0
        self._count = threading.Lock()

    def run(self, image: np.ndarray, turn: Turn | None = None) -> np.ndarray:
        with self._count:
            self._running += 1
            self.most = max(self.most, self._running)
        time.sleep(0.002)  # or the first would have ended before the second begins
        result = super().run(image, turn)
        with self._count:
            self._running -= 1
        return result
