"""`Restorer`: a bundle as a function from image to image."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.imaging import Rounding
from maxim_deploy.machine.forks import tell_children_of
from maxim_deploy.runtime.arguments import as_array, check_call, check_images
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.cuda import is_device_array
from maxim_deploy.runtime.executor import CLOSED, Executor, group_by_size
from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.lanes import LaneChoice
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.planning import Planner


class Restorer:
    """Restores images; made by `load`. May be called from several threads at once.

    The network runs for one caller at a time (on a GPU for two: one computes while the pictures of
    the other travel), with all its threads and within the memory that was planned; what callers do
    before and after it overlaps.

    A forked child may use it too, on a CPU: it opens the network again at its first call. A future
    of the parent's has no result there. It cannot be pickled: send the path of the bundle.

    Use it as a context manager, or call `close`, to give its memory back.

    Example:
        >>> import maxim_deploy, numpy
        >>> with maxim_deploy.load("build/demo") as restorer:
        ...     restored = restorer(numpy.zeros((48, 70, 3), numpy.uint8))
        >>> restored.shape, restored.dtype
        ((48, 70, 3), dtype('uint8'))
        >>> restorer.info.model.task, restorer.info.backend
        ('denoising', 'onnxruntime')
    """

    def __init__(
        self,
        backend: Backend,
        info: RestorerInfo,
        planner: Planner | None = None,
        max_memory: int | None = None,
        lanes: LaneChoice | None = None,
    ) -> None:
        self._lanes = lanes
        if lanes and (known := lanes.look_up()):
            backend.use_lanes(known)
        self._work = Executor(backend, planner or Planner(backend), max_memory)
        self._is_closing = False
        self._info = info
        self._begin_without_threads()
        tell_children_of(self)

    def _begin_without_threads(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()
        self._here = threading.local()

    def after_fork(self) -> None:
        """Called in each forked child, which can then use this Restorer; a GPU's it cannot."""
        self._begin_without_threads()
        self._work.after_fork()

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a Restorer cannot be pickled or copied: its network is open in this process | send "
            "the path of the bundle, and call maxim_deploy.load there"
        )

    def __repr__(self) -> str:
        info = self._info
        what = f"{info.model.name}, {info.precision}, {info.backend} on {info.device}"
        return f"<Restorer: {what}{', closed' if self._is_closing else ''}>"

    @property
    def info(self) -> RestorerInfo:
        """What it runs, and on what, as far as is known now."""
        chosen = self._lanes.note if self._lanes else None
        notes = (*self._work.notes, *filter(None, [chosen]))
        return replace(self._info, lanes=self._work.lanes, notes=notes)

    def __call__(
        self,
        image: NDArray[Any],
        *,
        rounding: Rounding = "nearest",
        self_ensemble: bool = False,
        out: Any = None,
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
            out: with an image in device memory, another such array to write to. The same two
                arrays in every call let TensorRT launch a CUDA graph from the second call on.

        Returns:
            A new NumPy array of the same shape and type. Integers are clipped; float32 is not. For
            an array in device memory one in device memory, with `__cuda_array_interface__`. It is
            written when the call returns; of a restorer with a `stream`, when the stream gets
            there, and image and `out` must live until then.

        Raises:
            ImageTooLargeError: it cannot be run within `max_memory`, or the memory there is.
            UsageError: the array is not such an image or on another GPU, `out` does not fit it, or
                the rounding is unknown.
            BackendError: the backend failed, or this restorer is closed.

        Example:
            >>> import maxim_deploy, numpy
            >>> image = numpy.linspace(0, 1, 64 * 64 * 3, dtype=numpy.float32).reshape(64, 64, 3)
            >>> with maxim_deploy.load("build/demo") as restorer:
            ...     once = restorer(image)
            ...     better = restorer(image, self_ensemble=True)
            ...     levels = restorer((image * 65535).astype(numpy.uint16), rounding="truncate")
            >>> once.dtype, better.dtype, levels.dtype
            (dtype('float32'), dtype('float32'), dtype('uint16'))
        """
        if is_device_array(image):
            if self_ensemble or rounding != "nearest":
                raise UsageError("an array in device memory takes no rounding and no self-ensemble")
            on_device: Any = self._work.run_on_device(image, out)
            return on_device  # type: ignore[no-any-return]  # of those who gave such an array
        if out is not None:
            raise UsageError("out is for images in device memory; of others the result is new")
        image = as_array(image)
        check_call(self._work.require_open(), image.dtype, rounding, self_ensemble)
        if image.ndim == 4 and image.shape[1] == 3 and len(image):
            images = list(image.transpose(0, 2, 3, 1))
            check_images(images[:1])
            restored = np.stack(self.batch(images, rounding=rounding, self_ensemble=self_ensemble))
            return np.ascontiguousarray(restored.transpose(0, 3, 1, 2))
        check_images([image])
        return self._work.restore([image], rounding, self_ensemble)[0]

    def batch(
        self,
        images: Sequence[NDArray[Any]],
        *,
        rounding: Rounding = "nearest",
        self_ensemble: bool = False,
    ) -> list[NDArray[Any]]:
        """Restore several images, whose sizes and types may differ.

        Those of one padded size go through the network together, as many as the memory and the
        engine's profiles allow and the backend gains from. (In the image form, of one size.)

        Args:
            images: each `[H, W, 3]`, as in a call.
            rounding: as in a call.
            self_ensemble: as in a call.

        Returns:
            The results in the order of the images. They are those of single calls but for the order
            of additions inside the network: at most 1/255 apart, in float32 about 1e-6.

        Raises:
            UsageError: as a call does, and it says which image; nothing was run then.
            BackendError: as a call does; nothing is returned then.

        Example:
            >>> import maxim_deploy, numpy
            >>> sizes = [(64, 64), (33, 70), (60, 50)]
            >>> with maxim_deploy.load("build/demo") as restorer:
            ...     many = restorer.batch([numpy.zeros((*size, 3), numpy.uint8) for size in sizes])
            >>> [one.shape for one in many]
            [(64, 64, 3), (33, 70, 3), (60, 50, 3)]
        """
        backend, arrays = self._work.require_open(), [as_array(image) for image in images]
        check_images(arrays)
        for array in arrays:
            check_call(backend, array.dtype, rounding, self_ensemble)
        results: dict[int, NDArray[Any]] = {}
        for group in group_by_size(arrays, backend.io):
            restored = self._work.restore([arrays[k] for k in group], rounding, self_ensemble)
            results |= dict(zip(group, restored, strict=True))
        return [results[k] for k in range(len(arrays))]

    def submit(self, image: NDArray[Any], **options: Any) -> Future[NDArray[Any]]:
        """Restore in the background; what precedes and follows the network overlaps with it.

        Args:
            image: as in a call; it must not change until the result is there. One in device memory
                is taken at once: its writers are those of this thread.
            options: as in a call.

        Raises:
            BackendError: this restorer is closed.

        Example:
            >>> import maxim_deploy, numpy
            >>> with maxim_deploy.load("build/demo") as restorer:
            ...     futures = [restorer.submit(numpy.zeros((64, 64, 3), "u1")) for _ in range(3)]
            ...     shapes = [future.result().shape for future in futures]
            >>> shapes
            [(64, 64, 3), (64, 64, 3), (64, 64, 3)]
        """
        # Under the lock, or `close` could shut the pool down between the check and the call.
        with self._pool_lock:
            if self._is_closing:
                raise BackendError(CLOSED)
            backend = self._work.require_open()
            # Taken here: the streams of torch, in one of which it is written, are this thread's.
            arguments: dict[str, Any] = {
                name: backend.device_array(value) if is_device_array(value) else value
                for name, value in {"image": image, **options}.items()
            }
            # Two threads more than lanes: one picture is prepared, and one finished, meanwhile.
            if self._pool is None:
                mark = partial(setattr, self._here, "is_of_the_pool", True)
                self._pool = ThreadPoolExecutor(backend.lanes + 2, "maxim-deploy", mark)
            return self._pool.submit(self, **arguments)

    def warmup(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Run on each (height, width), so that the first call is as fast as the others.

        On a CPU this measures first how many run at a time, unless that is known: `choose_lanes`.
        As often in each lane as the backend needs: TensorRT captures CUDA graphs in a second run.
        TensorRT for RTX goes on compiling in the background, unless the engine was built with
        `specialization = "eager"` or an earlier process has kept the kernels.

        Example:
            >>> import maxim_deploy
            >>> with maxim_deploy.load("build/demo") as restorer:
            ...     restorer.warmup([(64, 64), (128, 96)])
        """
        backend = self._work.require_open()
        for height, width in sizes:
            self.choose_lanes(height, width)
            black = np.zeros((height, width, 3), np.uint8)
            for _ in range(backend.warmup_runs):
                for future in [self.submit(black) for _ in range(backend.lanes)]:
                    future.result()

    def choose_lanes(self, height: int, width: int) -> int:
        """How many of several images of about a size run at a time, if it has not been told.

        Measured now unless it is known, which takes about as long as ten calls and at most some
        seconds; kept for later processes. `restore_files` and `warmup` do this.

        Args:
            height: of the images.
            width: likewise.

        Returns:
            The number, which is in `info` from now on.

        Raises:
            BackendError: the backend failed, or this restorer is closed.

        Example:
            >>> import maxim_deploy
            >>> with maxim_deploy.load("build/demo", lanes=2) as restorer:
            ...     restorer.choose_lanes(48, 64), restorer.info.lanes
            (2, 2)
        """
        choice = self._lanes
        if choice and choice.is_open:
            try:
                plan = self.plan(height, width)
            except UsageError:  # of this size; whoever runs it is told
                return self._work.lanes
            fits = choice.backend.max_lanes if plan.limit is None else plan.limit // plan.bytes
            self._work.choose_lanes(lambda: choice.measure((height, width), fits))
        return self._work.lanes

    def plan(self, height: int, width: int, *, self_ensemble: bool = False) -> Plan:
        """How an image of this size would be run now, and in how much memory.

        Args:
            height: of the image.
            width: likewise.
            self_ensemble: as in a call; it takes more memory.

        Raises:
            ImageTooLargeError: it cannot be run within `max_memory`, or the memory there is.
            UsageError: the backend takes no such size.
            BackendError: this restorer is closed.

        Example:
            >>> import maxim_deploy
            >>> with maxim_deploy.load("build/demo", tile=256) as restorer:
            ...     plan = restorer.plan(500, 400)
            >>> plan.padded, plan.tile, plan.tiles, plan.overlap
            ((512, 448), (256, 256), 6, 64)
            >>> 10_000_000 < plan.bytes < 100_000_000
            True
        """
        self._work.require_open()
        if height < 1 or width < 1:
            raise UsageError(f"an image has at least 1x1 pixels, not {height}x{width}")
        plan = self._work.plan(height, width, self_ensemble)
        return plan if self._lanes is None else self._lanes.with_times(plan)

    def has_room(
        self, size: int, height: int, width: int, *, self_ensemble: bool = False, runs: int = 1
    ) -> bool:
        """Whether there is memory for other work, such as reading the next image, beside a run.

        Args:
            size: bytes that the other work takes, of this process.
            height: of the image that runs.
            width: likewise.
            self_ensemble: as in a call.
            runs: so many of them, side by side.

        Returns:
            False if both together exceed `max_memory`, or the memory there is, or if there is no
            such run. Always True on a GPU, where a run takes no memory of this process.

        Example:
            >>> import maxim_deploy
            >>> with maxim_deploy.load("build/demo", max_memory="2GiB") as restorer:
            ...     restorer.has_room(1_000_000, 48, 64), restorer.has_room(2**31, 48, 64)
            (True, False)
        """
        return self._work.has_room(size, height, width, self_ensemble, runs)

    def close(self) -> None:
        """Finish what was submitted and give all memory back; calls are errors from then on.

        Raises:
            UsageError: called in a callback of one of its own futures, for which it would wait.
        """
        if hasattr(self._here, "is_of_the_pool"):
            raise UsageError(
                "close() in a callback of a future of this Restorer would wait for its own end; "
                "call it in another thread"
            )
        with self._pool_lock:
            self._is_closing = True
            pool, self._pool = self._pool, None
        # Without the lock: a callback of a future that this waits for may call `submit`.
        if pool is not None:
            pool.shutdown()
        self._work.close()

    def __enter__(self) -> Restorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
