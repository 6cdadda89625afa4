"""What a worker is to load, and what it may then be asked.

All runners see the same pictures, noise from a fixed seed, and give the network's result in the
same form, so that results can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.benchmarks.timing import Timed
from maxim_deploy.imaging import Padding, to_unit
from maxim_deploy.runtime import Restorer
from maxim_deploy.runtime.cuda import Cuda
from maxim_deploy.spec.precision import FULL
from maxim_deploy.spec.profiles import Shape

SEED = 0
DEVICE = 0
"""Index of the GPU, where there is one."""

Bracket = Callable[[], Timed]


def input_shape(size: tuple[int, int], batch: int, io: str) -> Shape:
    """The input of a graph of a form for pictures of a size: padded unless the graph pads."""
    if io == "image":
        return Shape(batch, *size)
    padding = Padding(*size)
    return Shape(batch, padding.padded_height, padding.padded_width)


@dataclass(frozen=True)
class Workload:
    """What a worker is to load; it travels as JSON.

    Attributes:
        runner: a backend, "torch" or "torch-compile".
        file: a bundle, of which PyTorch takes the literal weights, or a graph of the tensor form.
        size: height and width of the pictures.
        precision: inside.
        batch: pictures per call.
        threads: CPU threads; None for one per core.
        on_gpu: whether it runs on the GPU.
    """

    runner: str
    file: str
    size: tuple[int, int]
    precision: str = FULL
    batch: int = 1
    threads: int | None = None
    on_gpu: bool = False

    @property
    def padding(self) -> Padding:
        """From the pictures to what the network sees, and back."""
        return Padding(*self.size)

    def pictures(self) -> list[NDArray[np.uint8]]:
        """`batch` pictures `[H, W, 3]`, the same in every process."""
        random = np.random.default_rng(SEED)
        shape = (self.batch, *self.size, 3)
        return list(random.integers(0, 256, shape, np.uint8))

    def inputs(self, io: str) -> NDArray[Any]:
        """The pictures as a batch in the form of a graph, padded if that is the tensor form."""
        if io == "image":
            return np.stack(self.pictures())
        padded = [self.padding.apply(to_unit(picture)) for picture in self.pictures()]
        return np.ascontiguousarray(np.stack(padded).transpose(0, 3, 1, 2))

    def unpadded(self, restored: NDArray[Any], io: str) -> NDArray[np.float32]:
        """A result of the network as float32 `[N, H, W, 3]`."""
        if io == "image":
            return to_unit(restored)
        own = restored.astype(np.float32).transpose(0, 2, 3, 1)
        return np.stack([self.padding.undo(one) for one in own])


class Runner(Protocol):
    """Something that is loaded and can be timed.

    Attributes:
        library: that runs, with its version.
        device: "cpu", or "cuda:0" and the name of the GPU.
        io: form of the graph or engine; None for PyTorch.
        brackets: what to time, by name; see `maxim_deploy.benchmarks.records`.
        cuda: the GPU, to ask for its memory; None on a CPU.
    """

    library: str
    device: str
    io: str | None
    brackets: dict[str, Bracket]
    cuda: Cuda | None

    def result(self) -> NDArray[np.float32]:
        """What the network made of the pictures in its last run: `[N, H, W, 3]`."""

    def restorer(self) -> Restorer:
        """For tests under load.

        Raises:
            KeyError: this is no backend on a bundle.
        """


def by_wall(run: Callable[[], object]) -> Bracket:
    """A bracket of wall time around a call that returns when its work is done."""

    def bracket() -> Timed:
        start = time.perf_counter()
        run()
        return Timed(1e3 * (time.perf_counter() - start))

    return bracket
