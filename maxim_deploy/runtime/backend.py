"""The interface of backends."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

from numpy.typing import NDArray

from maxim_deploy.errors import UsageError
from maxim_deploy.machine.memory import available_bytes
from maxim_deploy.runtime.cuda.arrays import DeviceArray, device_array_from
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.profiles import Profile, Shape


class Backend(Protocol):
    """A loaded graph or engine. Subclasses must implement `run` and `bytes_for`.

    Attributes:
        name: name for `load`.
        device: "cpu", "cuda:0" with the name of the GPU, or another word for the device.
        library: the backend library and its version.
        precision: precision inside the graph, as named in `load`.
        io: form of the graph, "tensor" or "image".
        lanes: most concurrent runs.
        batch_pixels: pixels of a run from which on a larger batch gains nothing; None if it always
            gains.
        profiles: accepted ranges of shapes; empty if only its form limits them.
        uses_host_memory: whether a run takes memory of this process. The limit then applies to the
            whole process rather than to a run.
        warmup_runs: runs of a shape in each lane until it has full speed.
        lets_pass: whether it can run one small image more than it has lanes, beside a large one.
        takes_turns: whether `run` takes the caller's `Turn`, for early end and choice of threads.
    """

    name: str
    device: str
    library: str
    precision: str
    io: str
    lanes: int = 1
    batch_pixels: int | None = None
    profiles: tuple[Profile, ...] = ()
    uses_host_memory: bool = True
    warmup_runs: int = 1
    lets_pass: bool = False
    takes_turns: bool = False

    @abstractmethod
    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """Restore a batch in host memory, in the graph's form. Returns the same shape and type.

        As many threads may call it at once as there are lanes. With `takes_turns` it has a second
        parameter, `turn: Turn | None = None`. It then ends soon after `turn.stop` is set, and
        raises its reason.

        Args:
            image: float32 `[N, 3, H, W]` in [0, 1], sides multiples of 64, in the tensor form;
                uint8 `[N, H, W, 3]` of any size in the image form. C-contiguous.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape. Smaller shapes may run.
            BackendError: the backend failed.
        """

    def run_in_turn(self, image: NDArray[Any], turn: Turn) -> NDArray[Any]:
        """Run in a caller's turn, which may already be stopped.

        Raises:
            BaseException: the reason of `turn.stop`, or as `run`.
        """
        turn.stop.raise_if_set()
        return self.run(image, turn) if self.takes_turns else self.run(image)  # type: ignore[call-arg]

    @abstractmethod
    def bytes_for(self, shape: Shape) -> int:
        """Most memory of a run, beyond the loaded network."""

    def device_array(self, array: Any) -> DeviceArray:
        """Convert an array in device memory for `run_on_device`, without a copy.

        Call it in the thread that wrote the array, because torch's streams belong to threads.

        Args:
            array: object with `__cuda_array_interface__` or `__dlpack__`.

        Raises:
            UsageError: it cannot be read, or is in the memory of another GPU than the backend's,
                which is GPU 0 unless overridden.
        """
        return device_array_from(array)

    def run_on_device(
        self,
        image: DeviceArray,  # noqa: ARG002
        out: DeviceArray | None = None,  # noqa: ARG002
    ) -> DeviceArray:
        """Run in device memory, without a copy.

        Args:
            image: in the graph's form.
            out: array for the result; None for new memory, which the result owns.

        Raises:
            UsageError: the backend does not support device arrays.
            OutOfMemoryError, BackendError: as `run`.
        """
        raise UsageError(f"{self.name} does not support arrays in device memory; copy it to host")

    def takes(self, shape: Shape) -> bool:
        """Whether `run` accepts this shape; in the tensor form, the padded shape."""
        return self.io == "image" or not (shape.height % MULTIPLE_OF or shape.width % MULTIPLE_OF)

    @property
    def max_lanes(self) -> int:
        """Most lanes for `use_lanes`; 1 if the number cannot be chosen."""
        return 1

    def use_lanes(self, count: int) -> None:
        """Set the number of concurrent runs. Called while nothing runs."""
        raise UsageError(f"{self.name} has {self.lanes} lanes, not {count}; leave lanes at 'auto'")

    @property
    def sizes(self) -> str:
        """The sizes that it runs whole, in words."""
        return ", ".join(map(str, self.profiles)) or "any"

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on how it runs, in words. A run may add some."""
        return ()

    def free_bytes(self) -> int | None:
        """Memory that a run may take now, including held memory; None if unknown."""
        available = available_bytes() if self.uses_host_memory else None
        return None if available is None else available + self.held_bytes()

    def held_bytes(self) -> int:
        """Memory that it keeps from earlier runs for later ones."""
        return 0

    def release(self) -> None:
        """Free held memory that no run uses now, if possible."""
        return

    def after_fork(self) -> None:
        """Repair the backend in a forked child: threads, and locks that threads held.

        Called only if it uses host memory. CUDA does not survive a fork, so a child cannot use
        other backends.
        """
        return

    def close(self) -> None:
        """Free everything. Further calls fail."""
        return
