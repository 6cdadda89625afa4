"""`Restorer`: a bundle as a function from image to image."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._memory import resident_bytes
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.imaging import Padding, Rounding, check_image, from_unit, to_unit
from maxim_deploy.runtime.backend import Backend, OutOfMemoryError
from maxim_deploy.runtime.cuda import device_array_from, is_device_array
from maxim_deploy.runtime.planning import HOST_BYTES_PER_PIXEL, Plan, Planner
from maxim_deploy.runtime.running import Network, Pixels, ensemble, in_tiles, network_of
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.profiles import Shape

logger = logging.getLogger(__name__)

SMALLEST_RETRY = 128 * 128
"""Pixels of the smallest run that is tried after larger ones ran out of memory."""


@dataclass(frozen=True)
class RestorerInfo:
    """What a `Restorer` runs.

    Attributes:
        model: provenance of the weights.
        variant: "S-2" and so on, or None for any other size.
        precision: inside the graph, "fp32", "fp16" or "bf16".
        io: form of the graph, "tensor", or "image" where the bundle has no other.
        backend: "onnxruntime" and so on.
        device: "cpu", or the GPU.
        library: the backend library and its version.
        sizes: what it runs whole, in words; everything else it runs in tiles.
        not_taken: of `backend="auto"`, why the better backends were not taken, by name.
        multiple_of: both sides are padded to multiples of this before the network sees them.
    """

    model: Descriptor
    variant: str | None
    precision: str
    io: str
    backend: str
    device: str
    library: str
    sizes: str = "any"
    not_taken: dict[str, str] = field(default_factory=dict)
    multiple_of: int = MULTIPLE_OF


class Restorer:
    """Restores images; made by `load`. May be called from several threads at once.

    The network runs for one caller at a time, with all its threads and within the memory that was
    planned; what callers do before and after it overlaps.

    Use it as a context manager, or call `close`, to give its memory back.
    """

    def __init__(
        self,
        backend: Backend,
        info: RestorerInfo,
        planner: Planner | None = None,
        max_memory: int | None = None,
    ) -> None:
        self._backend: Backend | None = backend
        self._planner = planner or Planner(backend)
        self._max_memory = max_memory
        self._turn = threading.Lock()
        self._most: int | None = None
        self._held = 0
        self._pool: ThreadPoolExecutor | None = None
        self.info = info

    def __call__(
        self,
        image: NDArray[Any],
        *,
        rounding: Rounding = "nearest",
        self_ensemble: bool = False,
    ) -> NDArray[Any]:
        """Restore one image, or a batch of one size.

        Args:
            image: RGB `[H, W, 3]`, or `[N, 3, H, W]`, of any size from 1x1: uint8, uint16, or
                float32 in [0, 1]. Any strides; it is not modified. An array of another library in
                host memory is taken by DLPack, without a copy. On a GPU backend also an array in
                device memory (`__cuda_array_interface__` or DLPack) in the form of the graph,
                `info.io`: `[N, H, W, 3]` uint8, or `[N, 3, H, W]` float32, sides multiples of 64.
            rounding: "nearest", or "truncate" as the published scripts save. For integers only.
            self_ensemble: the mean over eight rotations and flips, as published: eight times the
                work for a little more quality.

        Returns:
            A new NumPy array of the same shape and type. Integers are clipped; float32 is not. For
            an array in device memory one in device memory, with `__cuda_array_interface__`.

        Raises:
            UsageError: the array is not such an image, or the rounding is unknown.
            BackendError: the backend failed, or this restorer is closed.
        """
        if is_device_array(image):
            on_device: NDArray[Any] = self._on_device(image)
            return on_device
        image = _as_array(image)
        if rounding not in ("nearest", "truncate"):
            raise UsageError(f"rounding must be 'nearest' or 'truncate', not {rounding!r}")
        if image.ndim == 4 and image.shape[1] == 3:
            images = image.transpose(0, 2, 3, 1)
            restored = [self._one(one, rounding, self_ensemble) for one in images]
            return np.ascontiguousarray(np.stack(restored).transpose(0, 3, 1, 2))
        return self._one(image, rounding, self_ensemble)

    def batch(self, images: Sequence[NDArray[Any]], **options: Any) -> list[NDArray[Any]]:
        """Restore several images, whose sizes and types may differ.

        Those of one size run one after the other, so that a backend sets each size up once.

        Args:
            images: each `[H, W, 3]`, as in a call.
            options: as in a call.

        Returns:
            The results in the order of the images, those of single calls.

        Raises:
            As a call does; nothing is returned then.
        """
        arrays = [_as_array(image) for image in images]
        for image in arrays:
            check_image(image)
        order = sorted(range(len(arrays)), key=lambda k: arrays[k].shape)
        results: dict[int, NDArray[Any]] = {k: self(arrays[k], **options) for k in order}
        return [results[k] for k in range(len(arrays))]

    def submit(self, image: NDArray[Any], **options: Any) -> Future[NDArray[Any]]:
        """Restore in the background; what precedes and follows the network overlaps with it.

        Args:
            image: as in a call; it must not change until the result is there.
            options: as in a call.

        Raises:
            BackendError: this restorer is closed.
        """
        self._opened()
        with self._turn:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(3, thread_name_prefix="maxim-deploy")
            pool = self._pool
        return pool.submit(self, image, **options)

    def warmup(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Run once for each (height, width), so that the first call is as fast as the others."""
        for height, width in sizes:
            self(np.zeros((height, width, 3), np.uint8))

    def plan(self, height: int, width: int) -> Plan:
        """How an image of this size would be run now, and in how much memory.

        Raises:
            UsageError: it cannot be run within the memory there is.
            BackendError: this restorer is closed.
        """
        self._opened()
        if height < 1 or width < 1:
            raise UsageError(f"an image has at least 1x1 pixels, not {height}x{width}")
        return self._planner.plan(height, width, self._limit(), self._most)

    def close(self) -> None:
        """Finish what was submitted and give all memory back; calls are errors from then on."""
        with self._turn:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        with self._turn:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> Restorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> Backend:
        if self._backend is None:
            raise BackendError("this Restorer is closed; load the bundle again")
        return self._backend

    def _limit(self) -> int | None:
        """Bytes that a run may take.

        On a CPU what the process does not have yet, and what the backend keeps from earlier runs:
        the next run uses that again, or the second image would be tiled where the first was not.
        """
        backend = self._opened()
        if backend.device != "cpu":
            return backend.free_bytes() if self._max_memory is None else self._max_memory
        if self._max_memory is not None:
            return self._max_memory - resident_bytes() + self._held
        free = backend.free_bytes()
        return None if free is None else free + self._held

    def _one(self, image: NDArray[Any], rounding: Rounding, eight: bool) -> NDArray[Any]:
        check_image(image)
        height, width, _ = image.shape
        with self._turn:
            backend = self._opened()
            plan = self._planner.plan(height, width, self._limit(), self._most)
            self._check_form(backend, image.dtype, rounding, eight)
            while True:
                try:
                    restored = self._run(backend, plan, image, eight)
                    break
                except OutOfMemoryError as error:
                    plan = self._smaller(plan, error)
            self._held = max(self._held, plan.bytes - HOST_BYTES_PER_PIXEL * height * width)
        return np.ascontiguousarray(from_unit(restored, image.dtype, rounding))

    def _on_device(self, image: Any) -> Any:
        """Device memory in and out, whole and as it is: nothing is padded, clipped or rounded."""
        with self._turn:
            backend: Any = self._opened()
            if not hasattr(backend, "run_on_device"):
                raise UsageError(
                    f"{backend.name} takes no arrays in device memory; copy it to host"
                )
            return backend.run_on_device(device_array_from(image))

    @staticmethod
    def _check_form(
        backend: Backend, dtype: np.dtype[Any], rounding: Rounding, eight: bool
    ) -> None:
        if backend.io == "image" and (dtype != np.uint8 or rounding != "nearest" or eight):
            raise UsageError(
                "this runs the image form, which takes uint8 and rounds to nearest, not "
                f"{dtype}{' in a self-ensemble' if eight else ''} and {rounding!r}; export it with "
                "--io image,tensor"
            )

    def _run(self, backend: Backend, plan: Plan, image: NDArray[Any], eight: bool) -> Pixels:
        """The image's own pixels, restored, as float32."""
        network, unit = network_of(backend), to_unit(image)
        padding = Padding(plan.height, plan.width)
        if plan.tile is None and backend.io == "image":
            return network(unit)
        padded = padding.apply(unit)
        run = network if plan.tile is None else self._tiled(network, plan, plan.tile)
        return padding.undo(ensemble(run, padded) if eight else run(padded))

    def _tiled(self, network: Network, plan: Plan, tile: tuple[int, int]) -> Network:
        """The network on tiles; of an image that lies on its side, so do the tiles."""

        def run(x: Pixels) -> Pixels:
            height, width = x.shape[:2]
            sides = tile if (height, width) == plan.padded else tile[::-1]
            return in_tiles(network, x, self._planner.tiling(height, width, sides))

        return run

    def _smaller(self, plan: Plan, error: OutOfMemoryError) -> Plan:
        """After running out of memory, tiles of at most half the pixels; said once."""
        pixels = Shape(1, *(plan.tile or plan.padded)).pixels
        if self._planner.tile != "auto" or pixels // 2 < SMALLEST_RETRY:
            raise BackendError(
                f"{error} | leave tile at 'auto', or choose smaller tiles"
            ) from error
        if self._most is None:
            logger.warning("out of memory at %dx%d; going on in tiles", plan.height, plan.width)
        self._most = pixels // 2
        return self._planner.plan(plan.height, plan.width, self._limit(), self._most)


def _as_array(image: Any) -> NDArray[Any]:
    """NumPy arrays as they are; host memory of other libraries by DLPack."""
    if isinstance(image, np.ndarray) or not hasattr(image, "__dlpack__"):
        return image  # type: ignore[no-any-return]  # `check_image` refuses anything else
    try:
        return np.from_dlpack(image)
    except (BufferError, RuntimeError, TypeError) as error:
        raise UsageError(f"cannot take this array by DLPack: {error}") from error
