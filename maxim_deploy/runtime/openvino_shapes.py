"""A graph compiled by OpenVINO for the shapes in use. The last few are kept.

A form for one shape is faster than a form for all shapes. With S-2 at 1024x1024 it takes 2.3 GB
rather than 3.9.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from maxim_deploy.errors import BackendError
from maxim_deploy.machine.memory import trim
from maxim_deploy.machine.openvino import DEVICE, check_precision, failure
from maxim_deploy.runtime.openvino_cache import CompiledFiles
from maxim_deploy.runtime.openvino_memory import ShapeMemory

KEPT = 4
"""Most shapes. A video has one, a folder of photographs two. Each takes 200 MB with S-2."""

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


class CompiledShapes:
    """The forms of a graph. One thread at a time compiles. Any thread may query and release.

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
        self._lock = threading.RLock()

    @property
    def held_bytes(self) -> int:
        """Memory of the forms and of the last run, which the request keeps."""
        with self._lock:
            if not self._kept:
                return 0
            last = next(reversed(self._kept))
            return len(self._kept) * self._memory.form + self._memory.run(pixels_of(last))

    def take(self, dims: Dims, room: int | None) -> Compiled:
        """The form for a shape, compiled or read if it is not loaded.

        Args:
            dims: `[N, 3, H, W]`.
            room: limit in bytes for all forms and the run; None for no limit.

        Raises:
            OutOfMemoryError: there is not enough memory to compile it.
            BackendError: OpenVINO cannot compile it in this precision.
        """
        with self._lock:
            if dims in self._kept:
                self._kept.move_to_end(dims)
            self._make_room(dims, room)
            if dims not in self._kept:
                self._kept[dims] = self._opened(dims)
            return self._kept[dims]

    def clear(self) -> None:
        """Free all memory."""
        with self._lock:
            self._kept.clear()
            trim()

    def _make_room(self, dims: Dims, room: int | None) -> None:
        """Drop the least recently used forms, and memory left by runs of other shapes."""
        others = [one for one in self._kept if one != dims]
        needed = self._memory.peak(pixels_of(dims))
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
