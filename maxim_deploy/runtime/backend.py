"""What a `Restorer` asks of a backend."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from maxim_deploy.errors import BackendError
from maxim_deploy.spec.profiles import Shape


class OutOfMemoryError(BackendError, MemoryError):
    """A backend ran out of memory on one run, and can still do smaller ones; or while it opened."""


class Backend(Protocol):
    """One loaded graph or engine.

    Attributes:
        name: "onnxruntime" and so on, as `load` takes it.
        device: "cpu", or "cuda:0" and the name of the GPU.
        library: the backend library and its version.
        precision: inside the graph, a name in `spec.precision`.
        io: form of the graph, "tensor" or "image".
        lanes: runs that it can have under way at a time.
        batch_pixels: of a run, beyond which more images in it gain nothing; None if they always do.
    """

    name: str
    device: str
    library: str
    precision: str
    io: str
    lanes: int
    batch_pixels: int | None

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """Restore a batch in the graph's form, in host memory; the same shape and type comes back.

        May be called from several threads at once.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape.
            BackendError: the backend failed.
        """
        ...

    def takes(self, shape: Shape) -> bool:
        """Whether `run` can be called with images of this shape; padded ones in the tensor form."""
        ...

    def bytes_for(self, shape: Shape) -> int:
        """Memory of the device that a run takes at most while it lasts, beyond what is loaded."""
        ...

    def free_bytes(self) -> int | None:
        """Memory of the device that a run may take now, what is held included; None if unknown."""
        ...

    def held_bytes(self) -> int:
        """Memory that it keeps from earlier runs, and that the next uses again.

        A backend on a CPU that keeps any has a method `release`, which gives it back.
        """
        ...

    def close(self) -> None:
        """Give everything back; further calls fail."""
        ...
