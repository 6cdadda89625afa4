"""ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import (
    BackendError,
    MissingDependencyError,
    OutOfMemoryError,
    UsageError,
)
from maxim_deploy.machine.forks import never_destroy
from maxim_deploy.machine.memory import resident_bytes
from maxim_deploy.machine.onnxruntime import arena_of_this_process, cpu_session, telemetry
from maxim_deploy.machine.other_load import LoadWatch
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.onnxruntime_session import (
    check_form,
    check_result,
    run_error,
    stoppable,
)
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.runtime.verdict import Verdict
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.precision import CPU_PRECISIONS
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.run_memory import RunMemory, typical_run_memory

GraphSource = Callable[[], AbstractContextManager[Path]]

NOT_KNOWN = RunMemory([(0, 0)], 0.0)

BATCH_PIXELS = 2 * 128 * 128
"""Pixels of a run from which on batches gain nothing. Two cores, demo model: images of 64x64 take
6.6 ms each in a batch of eight and 9.2 alone; 128x128, 24 in a batch of two and 27 alone. Batches
of four of 128x128, or of 192x192 and more, are not faster."""


class OnnxRuntimeCpu(Backend):
    """Sessions on an ONNX graph of either form. Several threads may call `run`.

    A single run uses a session with all threads. Concurrent runs share another session, which is
        opened on first use: each run uses its caller's thread, and the remaining threads help all
        runs.

    Args:
        graph: the ONNX file, `<precision>.<io>.onnx`, with its weights beside it; or a function
            that provides it for a block. It is called at once, for concurrent runs, and in each
            forked child.
        threads: total threads of all runs, or None for one per core.
        memory: memory of a run; only needed for plans.
        form: precision and I/O form from the manifest; None to take them from the file's name.
        in_file_order: run the nodes in the file's order, as graphs tuned for this library need.
        spinning: whether threads wait for each other in a loop; None to choose by the load while
            this opens.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: ONNX Runtime cannot load the graph, or the graph has another form than its
            name.
    """

    name = "onnxruntime"
    device = "cpu"
    batch_pixels = BATCH_PIXELS
    lets_pass = True
    takes_turns = True

    def __init__(
        self,
        graph: Path | GraphSource,
        threads: int | None = None,
        memory: RunMemory = NOT_KNOWN,
        form: tuple[str, str] | None = None,
        spinning: bool | None = None,
        *,
        in_file_order: bool = False,
    ) -> None:
        self._graph = (lambda: nullcontext(graph)) if isinstance(graph, Path) else graph
        self._threads, self._opening = threads, threading.Lock()
        self._in_file_order = in_file_order
        self._session_beside: Any = None
        self._beside_for = 1
        # Copying, hashing and loading take longer than a reading of the load needs.
        watch = LoadWatch()
        with self._graph() as path:
            self.is_shared = watch.is_shared() if spinning is None else False
            self.spinning = not self.is_shared if spinning is None else spinning
            self.precision, self.io = form or _form_in(path.name)
            # Before measuring: the library and the arena count once, not per session.
            self._arena = arena_of_this_process()
            before = resident_bytes()
            self._session: Any = self._open(path, threads, self.spinning)
            self._session_bytes = max(0, resident_bytes() - before)
            if self.io:
                check_form(self._session, path, self.io)
        # The arena belongs to the process. The last session that closes empties it.
        self._leave = self._arena.keep_for(self)
        self._memory = memory
        self._ort = require("onnxruntime", "cpu")
        self._version = self._ort.__version__
        self.library = f"onnxruntime {self._version}"

    @property
    def max_lanes(self) -> int:
        """More concurrent runs would not have a thread each."""
        return self._threads or usable_processors()

    def use_lanes(self, count: int) -> None:
        """As `Backend.use_lanes`."""
        if count not in (1, self._beside_for):
            # A session for another number of lanes has another number of threads.
            self._session_beside, self._beside_for = None, count
        self.lanes = count

    def run(self, image: NDArray[Any], turn: Turn | None = None) -> NDArray[Any]:
        """Restore a batch in the graph's form. Returns the same shape and type.

        Args:
            image: as in `Backend.run`.
            turn: turn of the caller; None to run alone.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape.
            BackendError: ONNX Runtime failed.
            BaseException: the reason of the turn's `stop`, which ends the run after an operator.
        """
        session = self._session_for(turn)
        size = self._memory.bytes_for(Shape.from_dims(image.shape, self.io).padded_pixels)
        try:
            # Blocks of smaller runs are too small for a larger one, and would stay allocated.
            with self._arena.room_for(size), stoppable(self._ort, turn) as options:
                outputs: list[Any] = session.run(["restored"], {"image": image}, options)
        except Exception as error:
            if turn:
                turn.stop.raise_if_set()
            failure = run_error(error, image.shape)
            if isinstance(failure, OutOfMemoryError):
                # The arena's content is unknown after a failed run, so empty it.
                self._arena.forget()
            raise failure from error
        restored: NDArray[Any] = outputs[0]
        check_result(restored, image)
        return restored

    def bytes_for(self, shape: Shape) -> int:
        """Memory that a run adds to a process without earlier runs.

        This includes the session for concurrent runs until it is opened.
        """
        is_to_open = self.lanes > 1 and self._session_beside is None
        opening = self._session_bytes if is_to_open else 0
        return self._memory.bytes_for(shape.padded_pixels) + opening

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`: telemetry of ONNX Runtime, and whether threads wait asleep."""
        asleep = None
        if not self.spinning:
            why = "other processes use the processors" if self.is_shared else "as requested"
            asleep = f"threads wait asleep rather than spinning: {why}"
        return tuple(filter(None, [telemetry(self._version), asleep]))

    def held_bytes(self) -> int:
        """Memory kept from earlier runs by all ONNX Runtime CPU backends of this process."""
        return self._arena.held_bytes

    def release(self) -> None:
        """Free kept memory that no run uses, of all ONNX Runtime CPU backends of this process."""
        self._arena.forget()

    def after_fork(self) -> None:
        """In the child, sessions have no threads. The child opens its own at the first run."""
        for session in (self._session, self._session_beside):
            never_destroy(session)
        self._session = self._session_beside = None
        self._opening = threading.Lock()

    def close(self) -> None:
        """Free the sessions and their memory."""
        self._session = self._session_beside = None
        self._leave()

    def _session_for(self, turn: Turn | None) -> Any:
        """The session with all threads, or that for concurrent runs, opened on first use."""
        # With one lane, a concurrent run is a small one that passes: it ends soon.
        if turn is None or turn.is_alone or self.lanes == 1:
            return self._session or self._opened("_session", self._threads, self.spinning)
        # The session counts only one caller's thread, but the other callers' threads work too.
        threads = max(1, self.max_lanes - self.lanes + 1)
        return self._session_beside or self._opened("_session_beside", threads, self.spinning)

    def _opened(self, attribute: str, threads: int | None, spinning: bool) -> Any:
        with self._opening:
            if getattr(self, attribute) is None:
                with self._graph() as path:
                    setattr(self, attribute, self._open(path, threads, spinning))
            return getattr(self, attribute)

    def _open(self, graph: Path, threads: int | None, spinning: bool) -> Any:
        try:
            return cpu_session(graph, threads, in_file_order=self._in_file_order, spinning=spinning)
        except MissingDependencyError:
            raise
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            raise BackendError(f"ONNX Runtime cannot load {graph.name!r}: {error}") from error


def _form_in(name: str) -> tuple[str, str]:
    """Precision and form from a file's name; empty if it has none."""
    precision, _, io = name.removesuffix(".onnx").partition(".")
    return (precision, io.partition(".")[0]) if io else ("", "")


def open_backend(request: Request) -> OnnxRuntimeCpu:
    """Open the best graph of a bundle, preferably one tuned for this library.

    Raises:
        UsageError: the request needs a GPU.
        BundleError, MissingDependencyError, BackendError: as `OnnxRuntimeCpu` and `Request` do.
    """
    for name, value, only in (("device", request.device, 0), ("stream", request.stream, None)):
        if value != only:
            raise UsageError(
                f"{name}={value!r} is not supported by a CPU backend; leave {name} at {only!r}"
            )
    if request.precision not in ("auto", *CPU_PRECISIONS):
        raise UsageError(
            f"a CPU does not run {request.precision}; choose {', '.join(CPU_PRECISIONS)}"
        )
    plain = request.best_entry(CPU_PRECISIONS)
    # The tuned graph uses threads better. On one thread the plain graph is at least as fast: S-2 at
    # 256x256 takes 0.975 of the tuned graph's time.
    has_threads = (request.threads or usable_processors()) > 1
    entry = request.bundle.tuned(plain, OnnxRuntimeCpu.name) if has_threads else plain
    memory = _run_memory(entry, request.bundle.manifest.architecture)
    graph = functools.partial(request.bundle.private_graph, entry)
    form, is_tuned = (entry.precision, entry.io), entry is not plain
    return OnnxRuntimeCpu(
        graph, request.threads, memory, form, request.spinning, in_file_order=is_tuned
    )


def open_graph(graph: Path, precision: str, device: int, threads: int | None) -> OnnxRuntimeCpu:  # noqa: ARG001
    """Open a graph outside of bundles. Its name has its precision and form."""
    return OnnxRuntimeCpu(graph, threads)


def run_tiny_graph(_: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    """For `maxim-doctor`: run the tiny graph on an image."""
    ort = require("onnxruntime", "cpu")
    session = ort.InferenceSession(TINY_GRAPH, providers=["CPUExecutionProvider"])
    restored: NDArray[Any] = session.run(["restored"], {"image": image})[0]
    return restored


def _run_memory(entry: GraphEntry, architecture: Architecture) -> RunMemory:
    """Memory measured at export, or else typical values of the architecture."""
    return entry.measured.run_memory or typical_run_memory(architecture)
