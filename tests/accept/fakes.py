"""Backends that keep every promise, and such as break one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from maxim_deploy.errors import BackendError
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.spec.profiles import Shape


class Same(Backend):
    """Gives back its image, as the graphs of the bundle do."""

    name, device, library, precision, io = "fake", "cpu", "fake 1", "fp32", "tensor"
    uses_host_memory = False

    def __init__(self, request: Any) -> None:
        self.request, self.runs = request, 0

    def run(self, image: np.ndarray) -> np.ndarray:
        self.runs += 1
        return self.changed(image.copy())

    def changed(self, image: np.ndarray) -> np.ndarray:
        return image

    def bytes_for(self, shape: Shape) -> int:
        return 100 * shape.pixels

    def free_bytes(self) -> int | None:
        return 10**9


class NotFinite(Same):
    def changed(self, image: np.ndarray) -> np.ndarray:
        return np.where(image > 2, image, np.nan).astype(np.float32)


class Black(Same):
    def changed(self, image: np.ndarray) -> np.ndarray:
        return image * 0


class Refusing(Same):
    def __init__(self, request: Any) -> None:
        raise BackendError("it does not load")


class Brighter(Same):
    """Five levels brighter than it should be."""

    def changed(self, image: np.ndarray) -> np.ndarray:
        return image * np.float32(0.9) + np.float32(5 / 255)


class WrongInBatches(Same):
    batch_pixels = None

    def changed(self, image: np.ndarray) -> np.ndarray:
        return image if len(image) == 1 else image[::-1].copy()


class WrongAtOneHeight(Same):
    """As if 65 rows, which are padded to 128, were cut out at another place."""

    def changed(self, image: np.ndarray) -> np.ndarray:
        return np.full_like(image, 0.5) if image.shape[2:] == (128, 64) else image


class SeamsInTiles(Same):
    """Brighter towards the right of what it sees, and each tile has its own right."""

    def changed(self, image: np.ndarray) -> np.ndarray:
        ramp = np.linspace(0, 0.5, image.shape[3], dtype=np.float32)
        return np.float32(0.5) * image + ramp


class Restless(Same):
    """Another result in each run."""

    def changed(self, image: np.ndarray) -> np.ndarray:
        return image * np.float32(1 / (1 + self.runs % 7))


class Slowly(Same):
    """Its first runs differ, as those of general kernels do."""

    def changed(self, image: np.ndarray) -> np.ndarray:
        return image if self.runs > 2 else image * np.float32(0.9)


class TwoLanes(Same):
    """Waits in its first runs for a second caller; some never come, as in a run that is alone."""

    lanes = 2

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.inside, self.lock, self.both = 0, threading.Lock(), threading.Event()

    def run(self, image: np.ndarray) -> np.ndarray:
        with self.lock:
            self.inside += 1
            if self.inside == 2:
                self.both.set()
        self.both.wait(0.05)
        restored = self.side_by_side(image) if self.both.is_set() else image.copy()
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.both.clear()
        return restored

    def side_by_side(self, image: np.ndarray) -> np.ndarray:
        return image.copy()


class SharedBuffer(TwoLanes):
    """Lanes that write to one buffer."""

    def side_by_side(self, image: np.ndarray) -> np.ndarray:
        return image[:, :, ::-1].copy()


class ForgetsShapes(Same):
    """Keeps the shape of the context that it has thrown away."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.seen: list[tuple[int, ...]] = []

    def changed(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image.shape)
        return image * np.float32(0.5) if self.seen.count(image.shape) == 4 else image


def on_gpu(kind: type[Same], stays_on: str | None = None) -> Callable[[Any], Same]:
    """An opener of a backend that says on which GPU it is."""

    def opened(request: Any) -> Same:
        backend = kind(request)
        backend.device = stays_on or f"cuda:{request.device} NVIDIA L4"
        return backend

    return opened


class FakeTorch:
    """`torch` with one GPU: work that was enqueued is done when somebody waits for it.

    Tensors are arrays of NumPy in a box; `waits` is whether a run waits for the stream of its
    input, as a runtime should.
    """

    def __init__(self, available: bool = True) -> None:
        self.pending: list[Callable[[], None]] = []
        self.cuda = SimpleNamespace(
            is_available=lambda: available,
            synchronize=self.wait,
            Stream=lambda: SimpleNamespace(cuda_stream=77),
            default_stream=lambda: SimpleNamespace(cuda_stream=0),
            stream=_Block,
        )

    def wait(self) -> None:
        while self.pending:
            self.pending.pop(0)()

    def from_numpy(self, array: np.ndarray) -> FakeTensor:
        return FakeTensor(self, array)

    def zeros_like(self, tensor: FakeTensor) -> FakeTensor:
        return FakeTensor(self, np.zeros_like(tensor.array))

    def ones(self, shape: tuple[int, int], device: str) -> None:
        assert device == "cuda"

    def matmul(self, a: object, b: object) -> None: ...

    def as_tensor(self, restored: np.ndarray, device: str) -> FakeTensor:
        assert device == "cuda"
        return FakeTensor(self, restored)


class _Block:
    def __init__(self, stream: object) -> None:
        self.stream = stream

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class FakeTensor:
    def __init__(self, torch: FakeTorch, array: np.ndarray) -> None:
        self.torch, self.array = torch, array.copy()

    def to(self, device: str) -> FakeTensor:
        return self

    def zero_(self) -> None:
        self.array[:] = 0

    def copy_(self, other: FakeTensor) -> None:
        self.torch.pending.append(lambda: self.array.__setitem__(..., other.array))

    def cpu(self) -> FakeTensor:
        self.torch.wait()
        return self

    def numpy(self) -> np.ndarray:
        return self.array


class DeviceRestorer:
    """A restorer of `FakeTensor`s."""

    def __init__(self, torch: FakeTorch, io: str, waits: bool) -> None:
        self.torch, self.waits, self.info = torch, waits, SimpleNamespace(io=io)

    def __call__(self, tensor: FakeTensor) -> np.ndarray:
        if self.waits:
            self.torch.wait()
        return tensor.array.copy()

    def __enter__(self) -> DeviceRestorer:
        return self

    def __exit__(self, *_: object) -> None: ...
