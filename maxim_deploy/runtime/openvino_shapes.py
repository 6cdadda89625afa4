"""A graph compiled by OpenVINO for the shapes in use. The last few are kept.

A form for one shape is faster than a form for all shapes. With S-2 at 1024x1024 it takes 2.3 GB
rather than 3.9.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from maxim_deploy.errors import BackendError
from maxim_deploy.machine.memory import trim
from maxim_deploy.machine.openvino import DEVICE, check_precision, failure
from maxim_deploy.runtime.openvino_cache import CompiledFiles
from maxim_deploy.runtime.openvino_gates import add_at_gates
from maxim_deploy.runtime.openvino_layouts import compute_on_tokens
from maxim_deploy.runtime.openvino_memory import ShapeMemory
from maxim_deploy.runtime.turns import Stop

KEPT = 4
"""Most shapes. A video has one, a folder of photographs two. Each takes 200 MB with S-2."""

CHANGES = 2
"""Version of the changes that are made to a graph before it is compiled. A form depends on it."""

POLL_S = 0.05
"""Longest time from a stop to its caller's return while a form is made."""

Dims = tuple[int, ...]


def pixels_of(dims: Dims) -> int:
    """Dimensions of an array `[N, 3, H, W]`."""
    return dims[0] * dims[2] * dims[3]


@dataclass(frozen=True)
class Compiled:
    """A graph for one shape.

    Attributes:
        model: the `openvino.CompiledModel`.
        request: its `openvino.InferRequest`, which keeps the memory of its last run.
    """

    model: Any
    request: Any


class _Making:
    """A form that a thread of its own makes, because OpenVINO cannot be stopped meanwhile.

    Args:
        dims: the shape.
        make: makes it.
        ended: called in the thread with the form, or with None on failure.
    """

    def __init__(
        self,
        dims: Dims,
        make: Callable[[Dims], Compiled],
        ended: Callable[[Compiled | None], object],
    ) -> None:
        self.dims, self._make, self._ended = dims, make, ended
        self._error: BaseException | None = None
        # No daemon: a process that ends in the middle of compiling may crash.
        self._thread = threading.Thread(target=self._run, name="maxim-deploy-compile")

    def start(self) -> None:
        """Begin."""
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is exiting and starts no threads
            self._run()

    def wait(self, stop: Stop | None = None) -> None:
        """Wait for the end. Raises the reason of a stop soon after it, and the thread goes on."""
        while self._thread.is_alive():
            self._thread.join(POLL_S)
            if stop:
                stop.raise_if_set()

    def raise_error(self) -> None:
        """After the end: raise why there is no form."""
        error, self._error = self._error, None
        try:
            if error:
                raise error
        finally:
            del error  # its traceback has this frame

    def _run(self) -> None:
        form = None
        try:
            form = self._make(self.dims)
        except BaseException as error:
            self._error = error
        self._ended(form)


class CompiledShapes:
    """The forms of a graph. One thread at a time takes them. Any thread may query and release.

    Args:
        core: the `openvino.Core`.
        model: the `openvino.Model` for any shape. It is not modified.
        precision: precision to compile for.
        settings: properties for compiling.
        files: compiled files of earlier processes.
        memory: memory of a form and its run.
    """

    def __init__(
        self,
        core: Any,
        model: Any,
        precision: str,
        settings: dict[str, Any],
        files: CompiledFiles,
        memory: ShapeMemory,
    ) -> None:
        self._core, self._model, self._files = core, model, files
        self._precision, self._settings, self._memory = precision, settings, memory
        self._kept: OrderedDict[Dims, Compiled] = OrderedDict()
        self._making: _Making | None = None
        self._lock = threading.RLock()

    @property
    def held_bytes(self) -> int:
        """Memory of the forms, of one that is made, and of the last run, which is kept."""
        with self._lock:
            held = self.making_bytes
            if self._kept:
                last = next(reversed(self._kept))
                held += len(self._kept) * self._memory.form + self._memory.run(pixels_of(last))
            return held

    @property
    def making_bytes(self) -> int:
        """Most that the form which is made now takes; 0 if none is."""
        return self._memory.making if self._making else 0

    def take(self, dims: Dims, room: int | None, stop: Stop) -> Compiled:
        """The form for a shape, compiled or read if it is not loaded.

        Args:
            dims: `[N, 3, H, W]`.
            room: limit in bytes for all forms, one that is made, and the run; None for no limit.
            stop: ends the wait. The form is completed nevertheless, and kept for later runs. Runs
                of other forms can begin meanwhile if there is memory.

        Raises:
            OutOfMemoryError: there is not enough memory to compile it.
            BackendError: OpenVINO cannot compile it in this precision.
            BaseException: the reason of `stop`.
        """
        while True:
            with self._lock:
                making = self._making
                is_there = dims in self._kept
                if is_there:
                    self._kept.move_to_end(dims)
                if making is None or (is_there and self._fits_beside(dims, room)):
                    self._make_room(dims, room)
                    if is_there:
                        return self._kept[dims]
                    making = self._making = _Making(dims, self._opened, partial(self._keep, dims))
                    making.start()
            making.wait(stop)
            if making.dims == dims:
                making.raise_error()

    def clear(self) -> None:
        """Free all memory, except that of a form that is made now."""
        with self._lock:
            self._kept.clear()
            trim()

    def close(self) -> None:
        """Wait for a form that is made, and free all memory."""
        if making := self._making:
            making.wait()
        self.clear()

    def _fits_beside(self, dims: Dims, room: int | None) -> bool:
        """Whether a run fits beside the form that is made."""
        needed = self._memory.peak(pixels_of(dims)) + self.making_bytes
        return room is None or needed <= room

    def _keep(self, dims: Dims, form: Compiled | None) -> None:
        with self._lock:
            self._making = None
            if form:
                self._kept[dims] = form

    def _make_room(self, dims: Dims, room: int | None) -> None:
        """Drop the least recently used forms, and memory left by runs of other shapes."""
        others = [one for one in self._kept if one != dims]
        needed = self._memory.peak(pixels_of(dims)) + self.making_bytes
        while others:
            taken = needed + len(others) * self._memory.form
            if len(others) < KEPT and (room is None or taken <= room):
                break
            del self._kept[others.pop(0)]
            trim()
        for one in others:
            self._kept[one].model.release_memory()

    def _opened(self, dims: Dims) -> Compiled:
        compiled = self._imported(dims) or self._compiled(dims)
        check_precision(compiled, self._precision)
        found = [*compiled.output().shape]
        if found != [*dims]:
            raise BackendError(
                f"the graph returns {found} for an input of {[*dims]}; expected the same shape: "
                "export the bundle again"
            )
        return Compiled(compiled, compiled.create_infer_request())

    def _imported(self, dims: Dims) -> Any:
        """The form kept by an earlier process, or None."""
        content = self._files.read(dims)
        if not content:
            return None
        try:
            imported = self._core.import_model(io.BytesIO(content), DEVICE, self._settings)
        except Exception:  # OpenVINO raises RuntimeError for everything
            self._files.refuse(dims)
            return None
        del content
        trim()
        return imported

    def _compiled(self, dims: Dims) -> Any:
        model = self._model.clone()
        try:
            compute_on_tokens(model, pixels_of(dims))
            add_at_gates(model)
            model.reshape([*dims])
            compiled = self._core.compile_model(model, DEVICE, self._settings)
        except Exception as error:
            size = "x".join(map(str, dims))
            raise failure(f"cannot compile the network for {size}", error) from error
        # Compiling leaves free heap that a run would not reuse.
        del model
        trim()
        self._files.write(dims, compiled)
        trim()
        return compiled
