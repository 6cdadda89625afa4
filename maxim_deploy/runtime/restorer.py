"""`Restorer`: a bundle as a function from image to image."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import (
    BackendError,
    CancelledError,
    DeadlineError,
    PixelRangeWarning,
    UsageError,
)
from maxim_deploy.imaging import Rounding
from maxim_deploy.machine.forks import tell_children_of
from maxim_deploy.runtime.admission import Admission
from maxim_deploy.runtime.arguments import (
    CudaArray,
    HostArray,
    as_array,
    check_call,
    check_images,
    looks_like_levels,
    seconds_from,
)
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.call import Call
from maxim_deploy.runtime.cuda import DeviceArray, is_device_array
from maxim_deploy.runtime.deadlines import Deadline, Deadlines
from maxim_deploy.runtime.executor import CLOSED, Executor
from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.interrupts import Interruptible
from maxim_deploy.runtime.lanes import LaneChoice
from maxim_deploy.runtime.pieces import Ready, restore_pieces
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.planning import Planner
from maxim_deploy.runtime.progress import RunProgress
from maxim_deploy.runtime.restoration import Deferred, Restoration
from maxim_deploy.runtime.turns import Stop
from maxim_deploy.runtime.workers import Workers

P = TypeVar("P", np.uint8, np.uint16, np.float32)
"""Type of pixels. The result has the type of the image."""

T = TypeVar("T")


class Restorer:
    """Restores images. `load` makes it. Several threads may call it at once.

    The network runs for one caller at a time, with all its threads and within the planned memory.
    (A GPU has two callers: one computes while the other transfers pictures.) The work of callers
    before and after the network overlaps. Turns follow the order of requests. A picture of many
    runs (tiles, orientations) lets others run between two of its runs, so small pictures wait for
    one tile. A picture that runs whole cannot be interrupted. If memory allows, ONNX Runtime on a
    CPU runs a picture of a quarter of its size or less beside it.

    Ctrl-C in the main thread ends a call, or the wait for a `submit`, within about 0.1 s on a CPU
    and after the current run on an engine. The restorer stays usable.

    On a CPU a forked child may use it too and opens the network again at its first call. Futures of
        the parent have no result there. A restorer cannot be pickled: send the path of the bundle.

    Use it as a context manager, or call `close`, to free its memory.

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
        queue: int | None = None,
        lanes: LaneChoice | None = None,
    ) -> None:
        self._lane_choice = lanes
        if lanes and (known := lanes.look_up()):
            backend.use_lanes(known)
        self._work = Executor(backend, planner or Planner(backend), max_memory)
        self._is_closing = self._has_warned = False
        self._info, self._queue = info, queue
        self._is_interruptible = backend.takes_turns
        self._begin_without_threads()
        tell_children_of(self)

    def _begin_without_threads(self) -> None:
        self._admission = Admission(self._work.lanes, self._queue)
        self._main, self._deadlines = Interruptible(), Deadlines()
        self._due: dict[object, Deadline] = {}
        self._pool_lock = threading.RLock()
        self._here = threading.local()
        self._workers: Workers | None = None
        self._long_workers: Workers | None = None

    def after_fork(self) -> None:
        """Called in each forked child, which can then use this Restorer, unless it is on a GPU."""
        self._begin_without_threads()
        self._work.after_fork()

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a Restorer cannot be pickled or copied, because its network is open in this process "
            "| send the path of the bundle, and call maxim_deploy.load there"
        )

    def __repr__(self) -> str:
        info = self._info
        what = f"{info.model.name}, {info.precision}, {info.backend} on {info.device}"
        return f"<Restorer: {what}{', closed' if self._is_closing else ''}>"

    @property
    def info(self) -> RestorerInfo:
        """What it runs and on which device, as known now."""
        chosen = self._lane_choice.note if self._lane_choice else None
        notes = (*self._work.notes, *filter(None, [chosen]))
        return replace(self._info, lanes=self._work.lanes, notes=notes)

    @overload
    def __call__(
        self, image: NDArray[P], *, rounding: Rounding = ..., self_ensemble: bool = ...
    ) -> NDArray[P]: ...

    @overload
    def __call__(self, image: CudaArray, *, out: CudaArray | None = ...) -> DeviceArray: ...

    @overload
    def __call__(
        self, image: HostArray, *, rounding: Rounding = ..., self_ensemble: bool = ...
    ) -> NDArray[Any]: ...

    def __call__(
        self,
        image: Any,
        *,
        rounding: Rounding = "nearest",
        self_ensemble: bool = False,
        out: Any = None,
    ) -> Any:
        """Restore one image, or a batch of one size.

        Args:
            image: RGB `[H, W, 3]`, or `[N, 3, H, W]`, of any size from 1x1 and any strides: uint8,
                uint16, or float32 in [0, 1]. It is not modified. Arrays of other libraries in host
                memory are read by DLPack without a copy. A GPU backend also takes an array in
                device memory (`__cuda_array_interface__` or DLPack) in the form of the graph,
                `info.io`: `[N, H, W, 3]` uint8, or `[N, 3, H, W]` float32 with sides in multiples
                of 64.
            rounding: "nearest", or "truncate" as in the published scripts. For integers only.
            self_ensemble: the published mean over eight rotations and flips: eight times the work
                for slightly better quality.
            out: for an image in device memory, an array for the result. With the same two arrays in
                every call, TensorRT launches a CUDA graph from the second call on.

        Returns:
            A new NumPy array of the same shape and type. Integers are clipped, float32 is not. For
            an array in device memory, an array in device memory with `__cuda_array_interface__`,
            which is complete when the call returns. With a `stream`, it is complete when the stream
            has done the work, and image and `out` must live until then.

        Raises:
            ImageTooLargeError: it cannot be run within `max_memory`, or the memory there is.
            UsageError: the array is not an image or is on another GPU, `out` does not match it, or
                the rounding is unknown.
            QueueFullError: the queue is full, see `queue` of `load`.
            BackendError: the backend failed, or this restorer is closed.
            CancelledError: `close(cancel_pending=True)` was called meanwhile.

        Warns:
            PixelRangeWarning: once, for a float32 image that seems to have values from 0 to 255.

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
            _check_on_device(rounding, self_ensemble)
        elif out is not None:
            raise UsageError(OUT_IS_FOR_DEVICES)
        else:
            image = as_array(image)
            self._warn_of_levels(image)
        return self._called(
            lambda stop: self._restored(image, out, Call(rounding, self_ensemble, stop))
        )

    def batch(
        self,
        images: Sequence[NDArray[P]],
        *,
        rounding: Rounding = "nearest",
        self_ensemble: bool = False,
        ready: Callable[[int, NDArray[P]], object] | None = None,
    ) -> list[NDArray[P]]:
        """Restore several images of any sizes and types.

        Images of one padded size (in the image form, of one size) run together, as many as memory
        and the engine's profiles allow and as the backend gains from. On a CPU the lanes share the
        images, see `choose_lanes`.

        Args:
            images: each `[H, W, 3]`, as in a call.
            rounding: as in a call.
            self_ensemble: as in a call.
            ready: called with the index and the result of each image once it is restored, one at
                a time, in any thread. Its exceptions end the call.

        Returns:
            The results in the order of the images. They differ from single calls only by the order
                of additions in the network: at most 1/255, in float32 about 1e-6.

        Raises:
            UsageError: as a call does, with the index of the image. Nothing was run.
            BackendError: as a call does. No result is returned; `ready` may have had some.

        Example:
            >>> import maxim_deploy, numpy
            >>> sizes = [(64, 64), (33, 70), (60, 50)]
            >>> with maxim_deploy.load("build/demo") as restorer:
            ...     many = restorer.batch([numpy.zeros((*size, 3), numpy.uint8) for size in sizes])
            >>> [one.shape for one in many]
            [(64, 64, 3), (33, 70, 3), (60, 50, 3)]
        """
        arrays = [as_array(image) for image in images]
        self._warn_of_levels(*arrays)
        return self._called(
            lambda stop: self._batch(arrays, Call(rounding, self_ensemble, stop), ready)
        )

    @overload
    def submit(
        self,
        image: NDArray[P],
        *,
        rounding: Rounding = ...,
        self_ensemble: bool = ...,
        timeout: float | None = ...,
        progress: Callable[[RunProgress], object] | None = ...,
    ) -> Restoration[NDArray[P]]: ...

    @overload
    def submit(
        self, image: CudaArray, *, timeout: float | None = ..., out: CudaArray | None = ...
    ) -> Restoration[DeviceArray]: ...

    @overload
    def submit(
        self,
        image: HostArray,
        *,
        rounding: Rounding = ...,
        self_ensemble: bool = ...,
        timeout: float | None = ...,
        progress: Callable[[RunProgress], object] | None = ...,
    ) -> Restoration[NDArray[Any]]: ...

    def submit(
        self,
        image: Any,
        *,
        rounding: Rounding = "nearest",
        self_ensemble: bool = False,
        timeout: float | None = None,
        progress: Callable[[RunProgress], object] | None = None,
        out: Any = None,
    ) -> Restoration[Any]:
        """Restore in the background. Work before and after the network overlaps with it.

        Args:
            image: as in a call. It must not change until the result is there. An array in device
                memory is read at once, because this thread's stream writes it.
            rounding: as in a call.
            self_ensemble: as in a call.
            timeout: seconds from now until a `DeadlineError` ends the picture; for 0 or less at
                once, without a run. None for no limit.
            progress: called after each run, in the thread that runs the network, which waits for
                it. Its exceptions end the picture. It may cancel the picture, but must not call
                this restorer.
            out: as in a call.

        Returns:
            A future that can be cancelled even while its picture runs: within about 0.1 s on a CPU,
                and after the current run on an engine. Its callbacks run in a thread of this
                restorer or in the cancelling thread.

        Raises:
            QueueFullError: the queue is full, see `queue` of `load`.
            UsageError: the timeout is not a number. Errors of other arguments are in the future.
            BackendError: this restorer is closed.

        Example:
            >>> import maxim_deploy, numpy
            >>> with maxim_deploy.load("build/demo") as restorer:
            ...     futures = [restorer.submit(numpy.zeros((64, 64, 3), "u1")) for _ in range(3)]
            ...     shapes = [future.result().shape for future in futures]
            ...     unwanted = restorer.submit(numpy.zeros((512, 512, 3), "u1"), timeout=60)
            ...     unwanted.cancel(), unwanted.cancel()
            (True, True)
            >>> shapes
            [(64, 64, 3), (64, 64, 3), (64, 64, 3)]
            >>> unwanted.result()
            Traceback (most recent call last):
            maxim_deploy.errors.CancelledError: the picture was cancelled before it was restored
        """
        due = None if timeout is None else time.monotonic() + seconds_from(timeout)
        if isinstance(image, np.ndarray):
            self._warn_of_levels(image)
        stop = Stop()
        restoration = Restoration[Any](stop, self._withdraw, self._leave)
        call = Call(rounding, self_ensemble, stop, progress, defers=True)
        # Under the lock: `close` could otherwise end the threads between the check and the call.
        with self._pool_lock:
            if self._is_closing:
                raise BackendError(CLOSED)
            backend = self._work.require_open()
            # Read here, because torch's streams belong to this thread.
            image, out = self._taken(image), self._taken(out)
            self._admission.enter(restoration, restoration.end)
            try:
                if due is not None:
                    self._end_at(due, restoration, stop, timeout)
                if self._workers is None:
                    # Two more than lanes: one picture is prepared and one finished meanwhile. The
                    # number of lanes may grow later. Threads start as needed.
                    self._workers = self._new_workers(max(backend.lanes, backend.max_lanes) + 2)
                work = partial(self._work_on, restoration, image, out, call)
                self._workers.put(restoration, work)
            except BaseException:
                self._leave(restoration)
                raise
        return restoration

    def warmup(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Run once per (height, width), so that the first call has full speed.

        On a CPU this first chooses the number of lanes, see `choose_lanes`. Each lane runs as often
        as the backend needs; for example, TensorRT captures CUDA graphs in the second run. TensorRT
        for RTX compiles in the background afterwards, unless the engine was built with
        `specialization = "eager"` or the cache has the kernels.

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
        """Choose the number of images of about a size that run at a time.

        It is measured now unless known. This takes about as long as ten calls, at most some
        seconds. The result is kept for later processes. `restore_files` and `warmup` call this.

        Args:
            height: of the images.
            width: in pixels, of the same image.

        Returns:
            The number, also in `info` from now on.

        Raises:
            BackendError: the backend failed, or this restorer is closed.

        Example:
            >>> import maxim_deploy
            >>> with maxim_deploy.load("build/demo", lanes=2) as restorer:
            ...     restorer.choose_lanes(48, 64), restorer.info.lanes
            (2, 2)
        """
        choice = self._lane_choice
        if choice and choice.is_open:
            try:
                plan = self.plan(height, width)
            except UsageError:  # a run of this size will raise the error
                return self._work.lanes
            fits = choice.backend.max_lanes if plan.limit is None else plan.limit // plan.bytes
            self._work.choose_lanes(lambda: choice.measure((height, width), fits))
            self._admission.lanes = self._work.lanes
        return self._work.lanes

    def plan(self, height: int, width: int, *, self_ensemble: bool = False) -> Plan:
        """The plan for an image of this size now, with its memory.

        Args:
            height: of the image.
            width: in pixels, of the same image.
            self_ensemble: as in a call. It takes more memory.

        Raises:
            ImageTooLargeError: it cannot be run within `max_memory`, or the memory there is.
            UsageError: the backend does not accept this size.
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
        return plan if self._lane_choice is None else self._lane_choice.with_times(plan)

    def has_room(
        self, size: int, height: int, width: int, *, self_ensemble: bool = False, runs: int = 1
    ) -> bool:
        """Whether there is memory for other work beside a run, such as reading the next image.

        Args:
            size: bytes of the other work in this process.
            height: height of the image that runs.
            width: in pixels, of the same image.
            self_ensemble: as in a call.
            runs: number of concurrent runs.

        Returns:
            False if both together exceed `max_memory` or the available memory, or if the image
            cannot run. Always True on a GPU, where a run takes no memory of this process.

        Example:
            >>> import maxim_deploy
            >>> with maxim_deploy.load("build/demo", max_memory="2GiB") as restorer:
            ...     restorer.has_room(1_000_000, 48, 64), restorer.has_room(2**31, 48, 64)
            (True, False)
        """
        return self._work.has_room(size, height, width, self_ensemble, runs)

    def trim(self) -> None:
        """Free the memory kept from earlier runs for later ones.

        Use it when an application pauses or has other work. The next run takes slightly longer.
        Current runs are not affected.

        Raises:
            BackendError: this restorer is closed.

        Example:
            >>> import maxim_deploy, numpy
            >>> with maxim_deploy.load("build/demo") as restorer:
            ...     restored = restorer(numpy.zeros((512, 512, 3), numpy.uint8))
            ...     restorer.trim()
        """
        self._work.trim()

    def close(self, *, cancel_pending: bool = False) -> None:
        """Finish submitted pictures and free all memory. Later calls raise an error.

        Args:
            cancel_pending: whether to cancel all waiting and running pictures of all threads
                instead. They raise CancelledError.

        Raises:
            UsageError: a callback of one of its own futures called this, which would wait for
                itself.
        """
        if hasattr(self._here, "is_of_the_pool"):
            raise UsageError(
                "close() in a callback of a future of this Restorer would wait for its own end; "
                "call it in another thread"
            )
        with self._pool_lock:
            self._is_closing = True
        if cancel_pending:
            self._admission.end_all(lambda: CancelledError("the Restorer was closed"))
        # Without the lock: a callback of a pending future may call `submit`. Threads of long
        # pictures end last, because the other threads pass pictures to them.
        for name in ("_workers", "_long_workers"):
            workers: Workers | None = getattr(self, name)
            if workers:
                workers.shutdown()
        self._deadlines.close()
        self._work.close()
        self._main.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close.

        If an interruption such as Ctrl-C ends the block, pending pictures are cancelled.
        """
        is_interrupted = kind is not None and not issubclass(kind, Exception)
        self.close(cancel_pending=is_interrupted)

    def _called(self, work: Callable[[Stop], T]) -> T:
        """Run `work` as if in the caller's thread, and return its result."""
        stop = Stop()

        def admitted() -> T:
            with self._admission.call(stop):
                return work(stop)

        return self._main.do(admitted, stop) if self._is_interruptible else admitted()

    def _restored(self, image: Any, out: Any, call: Call) -> Any:
        """Restore an image, a batch `[N, 3, H, W]`, or an array in device memory."""
        if is_device_array(image):
            _check_on_device(call.rounding, call.self_ensemble)
            return self._work.run_on_device(image, out, call)
        if out is not None:
            raise UsageError(OUT_IS_FOR_DEVICES)
        image = as_array(image)
        check_call(self._work.require_open(), image.dtype, call.rounding, call.self_ensemble)
        if image.ndim == 4 and image.shape[1] == 3 and len(image):
            images = list(image.transpose(0, 2, 3, 1))
            check_images(images[:1])
            restored = np.stack(self._batch(images, call))
            return np.ascontiguousarray(restored.transpose(0, 3, 1, 2))
        check_images([image])
        return self._work.restore([image], call)[0]

    def _batch(
        self, arrays: Sequence[NDArray[Any]], call: Call, ready: Ready | None = None
    ) -> list[NDArray[Any]]:
        backend = self._work.require_open()
        check_images(arrays)
        for array in arrays:
            check_call(backend, array.dtype, call.rounding, call.self_ensemble)
        return restore_pieces(self._work, arrays, call, ready)

    def _taken(self, array: Any) -> Any:
        """Convert an array in device memory for the backend.

        Other arrays are returned unchanged.
        """
        backend = self._work.require_open()
        return backend.device_array(array) if is_device_array(array) else array

    def _work_on(self, restoration: Restoration[Any], image: Any, out: Any, call: Call) -> None:
        """Restore in a worker thread, or pass a picture of many runs to its own thread.

        Pictures of many runs then wait there, and do not occupy the threads for small ones.
        """
        if not restoration.running():
            restoration.set_running_or_notify_cancel()
        try:
            restoration.restore(lambda: self._restored(image, out, call))
        except Deferred:
            call = replace(call, defers=False)
            work = partial(self._work_on, restoration, image, out, call)
            try:
                with self._pool_lock:
                    if self._long_workers is None:
                        self._long_workers = self._new_workers(1)
                self._long_workers.put(restoration, work)
            except RuntimeError:  # the process is exiting and finishes submitted pictures
                work()
            del work
        # Break the cycle: the traceback of the future's exception has this frame.
        del restoration

    def _new_workers(self, count: int) -> Workers:
        mark = partial(setattr, self._here, "is_of_the_pool", True)
        return Workers(count, "maxim-deploy", mark)

    def _end_at(
        self, due: float, restoration: Restoration[Any], stop: Stop, timeout: float | None
    ) -> None:
        late = DeadlineError(f"the picture was not restored within {timeout:g} s")
        if due <= time.monotonic():
            stop.set(late)  # before it is queued, where it could start
        elif due < math.inf:
            end = partial(restoration.end, late)
            self._due[restoration] = self._deadlines.call_at(due, end)

    def _withdraw(self, restoration: Restoration[Any]) -> bool:
        """Remove a picture from the queue."""
        queues = filter(None, (self._workers, self._long_workers))
        return any(workers.withdraw(restoration) for workers in queues)

    def _leave(self, restoration: Restoration[Any]) -> None:
        """Forget a finished picture."""
        self._admission.leave(restoration)
        deadline = self._due.pop(restoration, None)
        if deadline:
            self._deadlines.drop(deadline)

    def _warn_of_levels(self, *images: NDArray[Any]) -> None:
        """Warn once, at the user's line."""
        if not self._has_warned and any(map(looks_like_levels, images)):
            self._has_warned = True
            warnings.warn(PixelRangeWarning(), stacklevel=3)


OUT_IS_FOR_DEVICES = "out is for images in device memory; omit it for other images"


def _check_on_device(rounding: Rounding, self_ensemble: bool) -> None:
    if self_ensemble or rounding != "nearest":
        raise UsageError(
            "an array in device memory supports neither rounding nor self-ensemble; omit them"
        )
