"""What a `Restorer` asks of a backend."""

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
    """One loaded graph or engine. Derive from it: `run` and `bytes_for` are all one must write.

    Attributes:
        name: as `load` takes it.
        device: "cpu", "cuda:0" and the name of the GPU, or another word for what it runs on.
        library: the backend library and its version.
        precision: inside the graph, as `load` takes it.
        io: form of the graph, "tensor" or "image".
        lanes: runs that it can have under way at a time.
        batch_pixels: of a run, beyond which more images in it gain nothing; None if they always do.
        profiles: ranges of shapes that it takes; none if its form is the only limit.
        uses_host_memory: whether the memory of a run is this process's. It is then bounded together
            with everything else that the process has, rather than by itself.
        warmup_runs: after which a shape is as fast as it gets, in each lane.
        lets_pass: whether it can have one small run more under way than lanes, beside a large one.
        takes_turns: whether `run` takes the caller's `Turn`, to end early and to choose threads.
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
        """Restore a batch in the graph's form, in host memory; the same shape and type comes back.

        May be called from as many threads at once as there are lanes. Of a backend with
        `takes_turns` it has a second parameter, `turn: Turn | None = None`; it then ends soon after
        `turn.stop` is set, and raises its reason.

        Args:
            image: float32 `[N, 3, H, W]` in [0, 1], sides multiples of 64, in the tensor form;
                uint8 `[N, H, W, 3]` of any size in the image form. C-contiguous.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape; smaller ones may run.
            BackendError: the backend failed.
        """

    def run_in_turn(self, image: NDArray[Any], turn: Turn) -> NDArray[Any]:
        """As `run`, in the turn of a caller, which may be stopped before it.

        Raises:
            BaseException: the reason of `turn.stop`; else as `run`.
        """
        turn.stop.raise_if_set()
        return self.run(image, turn) if self.takes_turns else self.run(image)  # type: ignore[call-arg]

    @abstractmethod
    def bytes_for(self, shape: Shape) -> int:
        """Memory that a run takes at most while it lasts, beyond what is loaded."""

    def device_array(self, array: Any) -> DeviceArray:
        """An array in device memory as `run_on_device` takes it, without a copy.

        Call it in the thread that wrote the array: the streams of torch are those of a thread.

        Args:
            array: whatever has `__cuda_array_interface__` or `__dlpack__`.

        Raises:
            UsageError: it is in the memory of another GPU than this runs on, which is the first one
                unless it is overridden, or cannot be taken.
        """
        return device_array_from(array)

    def run_on_device(
        self,
        image: DeviceArray,  # noqa: ARG002
        out: DeviceArray | None = None,  # noqa: ARG002
    ) -> DeviceArray:
        """As `run`, in device memory and without a copy.

        Args:
            image: in the graph's form.
            out: to write to; None for new memory, which the result owns.

        Raises:
            UsageError: it takes no such array.
            OutOfMemoryError, BackendError: as `run`.
        """
        raise UsageError(f"{self.name} takes no arrays in device memory; copy it to host")

    def takes(self, shape: Shape) -> bool:
        """Whether `run` can be called with images of this shape; padded ones in the tensor form."""
        return self.io == "image" or not (shape.height % MULTIPLE_OF or shape.width % MULTIPLE_OF)

    @property
    def max_lanes(self) -> int:
        """As many lanes as `use_lanes` takes; 1 if their number cannot be chosen."""
        return 1

    def use_lanes(self, count: int) -> None:
        """Have so many runs under way at a time from now on; called while nobody runs."""
        raise UsageError(f"{self.name} has {self.lanes} lanes, not {count}; leave lanes at 'auto'")

    @property
    def sizes(self) -> str:
        """What it runs whole, in words."""
        return ", ".join(map(str, self.profiles)) or "any"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of how it runs, in words; there may be more as it runs."""
        return ()

    def free_bytes(self) -> int | None:
        """Memory that a run may take now, what is held included; None if unknown."""
        available = available_bytes() if self.uses_host_memory else None
        return None if available is None else available + self.held_bytes()

    def held_bytes(self) -> int:
        """Memory that it keeps from earlier runs, and that the next uses again."""
        return 0

    def release(self) -> None:
        """Give back of the held memory what no run uses now, as far as it can."""
        return

    def after_fork(self) -> None:
        """In a forked child, make anew what it has not: threads, and locks that they held.

        Called if it uses host memory. CUDA does not survive a fork, so that a child cannot use any
        other backend at all.
        """
        return

    def close(self) -> None:
        """Give everything back; further calls fail."""
        return
