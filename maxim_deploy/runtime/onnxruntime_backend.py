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
"""Two cores, demo model: eight images of 64x64 in one run take 6.6 ms each, alone 9.2; two of
128x128 24 and 27. Four of 128x128, and anything from 192x192, take no less than alone, or more."""


class OnnxRuntimeCpu(Backend):
    """Sessions on one ONNX graph of either form; `run` may be called from many threads.

    A run that is alone has a session with all threads. Runs side by side share another one, which
    is opened for the first of them: each runs in its caller's thread, and what threads are left
    over help all of them.

    Args:
        graph: the ONNX file, `<precision>.<io>.onnx`, its weights beside it; or what gives one that
            lasts for the block, at once, for runs side by side, and in each forked child.
        threads: threads of all runs together, or None for one per core.
        memory: of a run; need not be known if nobody will ask.
        form: precision and I/O form, as a manifest says; None for those in the file's name.
        in_file_order: run the nodes as the file has them; graphs tuned for this library need it.
        spinning: whether threads wait for each other in a loop; None for no if others use the
            processors as well while this opens.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: ONNX Runtime cannot load the graph, or it is not of the form of its name.
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
        # Copying, hashing and loading take longer than the watch must be on.
        watch = LoadWatch()
        with self._graph() as path:
            self.is_shared = watch.is_shared() if spinning is None else False
            self.spinning = not self.is_shared if spinning is None else spinning
            self.precision, self.io = form or _form_in(path.name)
            # The library and the arena are there once, and sessions are compared without them.
            self._arena = arena_of_this_process()
            before = resident_bytes()
            self._session: Any = self._open(path, threads, self.spinning)
            self._session_bytes = max(0, resident_bytes() - before)
            if self.io:
                check_form(self._session, path, self.io)
        # The arena is the process's: the last session that leaves empties it.
        self._leave = self._arena.keep_for(self)
        self._memory = memory
        self._ort = require("onnxruntime", "cpu")
        self._version = self._ort.__version__
        self.library = f"onnxruntime {self._version}"

    @property
    def max_lanes(self) -> int:
        """Beyond which runs side by side have no thread each."""
        return self._threads or usable_processors()

    def use_lanes(self, count: int) -> None:
        """As `Backend.use_lanes`."""
        if count not in (1, self._beside_for):
            # That for another number of lanes has another number of threads.
            self._session_beside, self._beside_for = None, count
        self.lanes = count

    def run(self, image: NDArray[Any], turn: Turn | None = None) -> NDArray[Any]:
        """Restore a batch in the graph's form; the same shape and type comes back.

        Args:
            image: as of `Backend.run`.
            turn: the caller's; None to be alone.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape.
            BackendError: ONNX Runtime failed.
            BaseException: the reason of the turn's `stop`, which ends the run after an operator.
        """
        session = self._session_for(turn)
        size = self._memory.bytes_for(Shape.from_dims(image.shape, self.io).padded_pixels)
        try:
            # Blocks that smaller runs left are too small for a larger one, and would stay beside.
            with self._arena.room_for(size), stoppable(self._ort, turn) as options:
                outputs: list[Any] = session.run(["restored"], {"image": image}, options)
        except Exception as error:
            if turn:
                turn.stop.raise_if_set()
            failure = run_error(error, image.shape)
            if isinstance(failure, OutOfMemoryError):
                # The run may have left anything in the arena: begin again with nothing.
                self._arena.forget()
            raise failure from error
        restored: NDArray[Any] = outputs[0]
        check_result(restored, image)
        return restored

    def bytes_for(self, shape: Shape) -> int:
        """Memory that a run adds to a process that has run nothing yet.

        With it comes the session for runs side by side, as long as that is still to be opened.
        """
        is_to_open = self.lanes > 1 and self._session_beside is None
        opening = self._session_bytes if is_to_open else 0
        return self._memory.bytes_for(shape.padded_pixels) + opening

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`: what ONNX Runtime tells its maker, and if threads wait asleep."""
        asleep = None
        if not self.spinning:
            why = "others use the processors as well" if self.is_shared else "as asked for"
            asleep = f"threads wait for each other asleep rather than spinning: {why}"
        return tuple(filter(None, [telemetry(self._version), asleep]))

    def held_bytes(self) -> int:
        """Memory kept from earlier runs, of all such backends of this process."""
        return self._arena.held_bytes

    def release(self) -> None:
        """Give back what is kept, of all such backends, and that no run uses now."""
        self._arena.forget()

    def after_fork(self) -> None:
        """Sessions have lost their threads: the child opens its own at the first run."""
        for session in (self._session, self._session_beside):
            never_destroy(session)
        self._session = self._session_beside = None
        self._opening = threading.Lock()

    def close(self) -> None:
        """Give the sessions and their memory back."""
        self._session = self._session_beside = None
        self._leave()

    def _session_for(self, turn: Turn | None) -> Any:
        """The one with all threads, or that for runs side by side; opened if need be."""
        # With one lane, what runs beside others has passed them: it is small, and soon done.
        if turn is None or turn.is_alone or self.lanes == 1:
            return self._session or self._opened("_session", self._threads, self.spinning)
        # The session counts one caller's thread as its own; those of the other callers work too.
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
    """Precision and form that a file's name says; empty where it says none."""
    precision, _, io = name.removesuffix(".onnx").partition(".")
    return (precision, io.partition(".")[0]) if io else ("", "")


def open_backend(request: Request) -> OnnxRuntimeCpu:
    """The best graph of a bundle, in the form that was made for this library where there is one.

    Raises:
        UsageError: something is asked for that is a GPU's.
        BundleError, MissingDependencyError, BackendError: as `OnnxRuntimeCpu` and `Request` do.
    """
    for name, value, only in (("device", request.device, 0), ("stream", request.stream, None)):
        if value != only:
            raise UsageError(
                f"{name}={value!r} cannot be honoured by a CPU backend; leave {name} at {only!r}"
            )
    if request.precision not in ("auto", *CPU_PRECISIONS):
        raise UsageError(f"a CPU runs no {request.precision}; choose {', '.join(CPU_PRECISIONS)}")
    plain = request.best_entry(CPU_PRECISIONS)
    # It shares more work among threads. On one thread the plain graph is as fast or faster: S-2 at
    # 256x256 takes 0.975 of its time.
    has_threads = (request.threads or usable_processors()) > 1
    entry = request.bundle.tuned(plain, OnnxRuntimeCpu.name) if has_threads else plain
    memory = _run_memory(entry, request.bundle.manifest.architecture)
    graph = functools.partial(request.bundle.private_graph, entry)
    form, is_tuned = (entry.precision, entry.io), entry is not plain
    return OnnxRuntimeCpu(
        graph, request.threads, memory, form, request.spinning, in_file_order=is_tuned
    )


def open_graph(graph: Path, precision: str, device: int, threads: int | None) -> OnnxRuntimeCpu:  # noqa: ARG001
    """A graph that is in no bundle; its name says its precision and form."""
    return OnnxRuntimeCpu(graph, threads)


def run_tiny_graph(_: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    """For `maxim-doctor`: what the tiny graph makes of an image."""
    ort = require("onnxruntime", "cpu")
    session = ort.InferenceSession(TINY_GRAPH, providers=["CPUExecutionProvider"])
    restored: NDArray[Any] = session.run(["restored"], {"image": image})[0]
    return restored


def _run_memory(entry: GraphEntry, architecture: Architecture) -> RunMemory:
    """As measured at export; without a measurement, typical values of the architecture."""
    return entry.measured.run_memory or typical_run_memory(architecture)
