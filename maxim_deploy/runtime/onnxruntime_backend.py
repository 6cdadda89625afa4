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
from maxim_deploy.machine.onnxruntime import arena_of_this_process, cpu_session, telemetry
from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.onnxruntime_session import check_form, check_result, run_error
from maxim_deploy.runtime.request import Request
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
    """A session on one ONNX graph of either form; `run` may be called from many threads.

    Args:
        graph: the ONNX file, `<precision>.<io>.onnx`, its weights beside it; or what gives one that
            lasts for the block, at once and in each forked child.
        threads: threads within one operator, or None for one per core.
        memory: of a run; need not be known if nobody will ask.
        form: precision and I/O form, as a manifest says; None for those in the file's name.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: ONNX Runtime cannot load the graph, or it is not of the form of its name.
    """

    name = "onnxruntime"
    device = "cpu"
    batch_pixels = BATCH_PIXELS

    def __init__(
        self,
        graph: Path | GraphSource,
        threads: int | None = None,
        memory: RunMemory = NOT_KNOWN,
        form: tuple[str, str] | None = None,
    ) -> None:
        self._graph = (lambda: nullcontext(graph)) if isinstance(graph, Path) else graph
        self._threads, self._opening = threads, threading.Lock()
        with self._graph() as path:
            self.precision, self.io = form or _form_in(path.name)
            self._session: Any = _open_session(path, threads)
            if self.io:
                check_form(self._session, path, self.io)
        # The arena is the process's: the last session that leaves empties it.
        self._arena = arena_of_this_process()
        self._leave = self._arena.keep_for(self)
        self._memory = memory
        self._version = require("onnxruntime", "cpu").__version__
        self.library = f"onnxruntime {self._version}"

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """Restore a batch in the graph's form; the same shape and type comes back.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape.
            BackendError: ONNX Runtime failed.
        """
        session = self._session or self._opened_again()
        # Blocks that smaller runs left are too small for a larger one, and would stay beside it.
        self._arena.make_room(self.bytes_for(Shape.from_dims(image.shape, self.io)))
        try:
            outputs: list[Any] = session.run(["restored"], {"image": image})
        except Exception as error:
            failure = run_error(error, image.shape)
            if isinstance(failure, OutOfMemoryError):
                # The run may have left anything in the arena: begin again with nothing.
                self._arena.forget()
            raise failure from error
        restored: NDArray[Any] = outputs[0]
        check_result(restored, image)
        return restored

    def bytes_for(self, shape: Shape) -> int:
        """Memory that a run adds to a process that has run nothing yet."""
        return self._memory.bytes_for(shape.padded_pixels)

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`: what ONNX Runtime tells its maker."""
        return tuple(filter(None, [telemetry(self._version)]))

    def held_bytes(self) -> int:
        """Memory kept from earlier runs, of all such backends of this process."""
        return self._arena.held_bytes

    def release(self) -> None:
        """Give back what is kept, of all such backends, and that no run uses now."""
        self._arena.forget()

    def after_fork(self) -> None:
        """The session has lost its threads: the child opens one of its own at the first run."""
        never_destroy(self._session)
        self._session, self._opening = None, threading.Lock()

    def close(self) -> None:
        """Give the session and its memory back."""
        self._session = None
        self._leave()

    def _opened_again(self) -> Any:
        with self._opening:
            if self._session is None:
                with self._graph() as path:
                    self._session = _open_session(path, self._threads)
            return self._session


def _form_in(name: str) -> tuple[str, str]:
    """Precision and form that a file's name says; empty where it says none."""
    precision, _, io = name.removesuffix(".onnx").partition(".")
    return (precision, io.partition(".")[0]) if io else ("", "")


def _open_session(graph: Path, threads: int | None) -> Any:
    try:
        return cpu_session(graph, threads)
    except MissingDependencyError:
        raise
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        raise BackendError(f"ONNX Runtime cannot load {graph.name!r}: {error}") from error


def open_backend(request: Request) -> OnnxRuntimeCpu:
    """The best graph of a bundle.

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
    entry = request.best_entry(CPU_PRECISIONS)
    memory = _run_memory(entry, request.bundle.manifest.architecture)
    graph = functools.partial(request.bundle.private_graph, entry)
    return OnnxRuntimeCpu(graph, request.threads, memory, (entry.precision, entry.io))


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
