"""The workload of a worker, and the interface of the runner that it loads.

All runners get the same pictures, noise from a fixed seed. They return the network's result in the
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
"""Index of the GPU."""

Bracket = Callable[[], Timed]


def input_shape(size: tuple[int, int], batch: int, io: str) -> Shape:
    """The input shape of a graph for pictures of a size; padded unless the graph pads."""
    if io == "image":
        return Shape(batch, *size)
    padding = Padding(*size)
    return Shape(batch, padding.padded_height, padding.padded_width)


@dataclass(frozen=True)
class Workload:
    """The workload of a worker; it is sent as JSON.

    Attributes:
        runner: a backend, "torch" or "torch-compile".
        file: a bundle, or a graph of the tensor form. PyTorch loads the bundle's literal weights.
        size: height and width of the pictures.
        precision: precision of the network.
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
        """Padding of the pictures to the size that the network sees."""
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
        """A result of the network without padding, as float32 `[N, H, W, 3]`."""
        if io == "image":
            return to_unit(restored)
        own = restored.astype(np.float32).transpose(0, 2, 3, 1)
        return np.stack([self.padding.undo(one) for one in own])


class Runner(Protocol):
    """A loaded network that can be timed.

    Attributes:
        library: library that runs the network, with its version.
        device: "cpu", or "cuda:0" and the name of the GPU.
        io: form of the graph or engine; None for PyTorch.
        brackets: brackets to time, by name; see `maxim_deploy.benchmarks.records`.
        cuda: the GPU, for its memory; None on a CPU.
    """

    library: str
    device: str
    io: str | None
    brackets: dict[str, Bracket]
    cuda: Cuda | None

    def result(self) -> NDArray[np.float32]:
        """The restored pictures of the last run, `[N, H, W, 3]`."""

    def restorer(self) -> Restorer:
        """A restorer for tests under load.

        Raises:
            KeyError: the runner is not a backend on a bundle.
        """


def by_wall(run: Callable[[], object]) -> Bracket:
    """A bracket of wall time around a call that returns when its work is done."""

    def bracket() -> Timed:
        start = time.perf_counter()
        run()
        return Timed(1e3 * (time.perf_counter() - start))

    return bracket
