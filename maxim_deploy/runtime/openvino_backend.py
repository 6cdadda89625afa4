"""OpenVINO on the CPU: the float32 graph, compiled for each shape."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, OutOfMemoryError, UsageError
from maxim_deploy.imaging.known_picture import known_picture
from maxim_deploy.machine import openvino as library
from maxim_deploy.machine.forks import never_destroy
from maxim_deploy.machine.memory import resident_bytes
from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.expected_work import compiling_pays, in_words
from maxim_deploy.runtime.openvino_cache import CompiledFiles
from maxim_deploy.runtime.openvino_memory import ShapeMemory
from maxim_deploy.runtime.openvino_shapes import CHANGES, CompiledShapes
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.runtime.verdict import Verdict
from maxim_deploy.spec.export_record import GraphRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.onnx_resizing import resizes_with_antialias
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.profiles import Shape

MAX_ERROR = 5e-6
"""Largest difference allowed from ONNX Runtime in float32, of values in [0, 1]. S-2 had 1.5e-6, the
demo model 5e-7. An ignored antialias causes 0.12."""

HOST_BYTES_PER_PIXEL = 64
"""Reserve for arrays that appear after forms were dropped for a run; more than planning counts."""

GraphSource = Callable[[], AbstractContextManager[Path]]


class OpenVinoCpu(Backend):
    """A graph of the tensor form. It has one run at a time.

    Args:
        graph: provides the ONNX file, with its weights beside it, for a block. Called at once and
            in each forked child.
        precision: precision of computation, "fp32" or "bf16".
        threads: threads of a run, or None for one per core.
        memory: memory of a form and of a run.
        made_of: hashes of graph and weights, for the names of compiled files.
        known: measurements of the graph at export, which may include a result for comparison.
        max_memory: limit of the whole process in bytes, or None for the free memory.
        why: reason for the choice of this backend, in words.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        BackendError: OpenVINO cannot compile the graph, computes a wrong result, or lacks the
            precision.
    """

    name, device, io = "openvino", "cpu", "tensor"
    takes_turns = True
    # Each batch size would be another shape to compile.
    batch_pixels = 0

    def __init__(
        self,
        graph: GraphSource,
        precision: str,
        threads: int | None,
        memory: ShapeMemory,
        made_of: dict[str, Any],
        known: GraphRecord | None = None,
        max_memory: int | None = None,
        why: str = "",
    ) -> None:
        self.precision, self._graph, self._memory = precision, graph, memory
        self._made_of, self._max_memory, self._why = made_of, max_memory, why
        self._settings = library.settings_for(precision, threads)
        self.library = f"openvino {library.version_of(library.openvino())}"
        self._opening = threading.Lock()
        self._shapes: CompiledShapes | None = self._open()
        self._comparison = self._compared(known or GraphRecord())
        # An unusual size, which the job is unlikely to use.
        self._shapes.clear()

    def run(self, image: NDArray[Any], turn: Turn | None = None) -> NDArray[Any]:
        """Restore a batch. Raises as `Backend.run`.

        A stop ends it between two operators. While a form is made, the caller leaves, and the form
        is completed for later runs.
        """
        shapes, stop = self._shapes or self._opened_again(), (turn or Turn()).stop
        request = shapes.take(image.shape, self._room(image), stop).request
        stop.raise_if_set()
        restored = np.empty_like(image)
        tensor = library.openvino().Tensor
        request.set_input_tensor(tensor(image, shared_memory=True))
        request.set_output_tensor(tensor(restored, shared_memory=True))
        try:
            # Started before a stop can cancel it: a request that is not running ignores the stop.
            request.start_async()
            with stop.calling(request.cancel):
                request.wait()
        except Exception as error:  # OpenVINO raises RuntimeError for everything
            stop.raise_if_set()
            size = "x".join(map(str, image.shape))
            failure = library.failure(f"failed on an input of {size}", error)
            if isinstance(failure, OutOfMemoryError):
                shapes.clear()
            raise failure from error
        stop.raise_if_set()
        return restored

    def bytes_for(self, shape: Shape) -> int:
        """Memory that a run adds, including the form for its shape."""
        return self._memory.peak(shape.padded_pixels)

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`: OpenVINO's precision, the comparison, and telemetry."""
        hint = self._settings["INFERENCE_PRECISION_HINT"]
        said = f"OpenVINO reports that it computes in {hint}; {self._comparison}"
        return tuple(filter(None, [said, self._why, library.telemetry()]))

    def held_bytes(self) -> int:
        """Memory of the compiled forms and of the last run."""
        return self._shapes.held_bytes if self._shapes else 0

    def release(self) -> None:
        """Free the compiled forms. The next run of each shape compiles or reads it again."""
        if self._shapes:
            self._shapes.clear()

    def after_fork(self) -> None:
        """In the child, forms have no threads. The child makes its own at the first run."""
        never_destroy(self._shapes)
        self._shapes, self._opening = None, threading.Lock()

    def close(self) -> None:
        """Free everything, after a form that is made now."""
        if self._shapes:
            self._shapes.close()
        self._shapes = None

    def _open(self) -> CompiledShapes:
        core = library.openvino().Core()
        runs = library.precisions_of(core)
        if self.precision not in runs:
            raise BackendError(
                f"OpenVINO does not support {self.precision} on this processor "
                f"({library.processor_of(core)}); choose {' or '.join(runs)}"
            )
        with self._graph() as path:
            if resizes_with_antialias(path):
                raise BackendError(
                    f"{path.name} uses antialias, which OpenVINO ignores | export the bundle "
                    "without --literal, or pass backend='onnxruntime'"
                )
            model = library.read_model(core, path)
        _check_form(model)
        made_of = {**self._made_of, "settings": self._settings, "changes": CHANGES}
        files = CompiledFiles(made_of, self.library, library.processor_of(core))
        return CompiledShapes(core, model, self.precision, self._settings, files, self._memory)

    def _opened_again(self) -> CompiledShapes:
        with self._opening:
            if self._shapes is None:
                self._shapes = self._open()
            return self._shapes

    def _room(self, image: NDArray[Any]) -> int | None:
        """Bytes available for forms and a run together."""
        if self._max_memory is None:
            room = self.free_bytes()
        else:
            room = self._max_memory - resident_bytes() + self.held_bytes()
        if room is None:
            return None
        # What a form takes while it is made counts as held, but may not be taken yet.
        making = self._shapes.making_bytes if self._shapes else 0
        return room - making - HOST_BYTES_PER_PIXEL * (image.size // 3)

    def _compared(self, known: GraphRecord) -> str:
        """Run the known picture and compare it with the export's result. Returns a remark."""
        found = self.run(known_picture())
        if known.known_result is None:
            return (
                "not compared with ONNX Runtime, because this bundle has no result for "
                "comparison: export it again"
            )
        expected = np.frombuffer(known.known_result, "<f4").reshape(found.shape)
        error, allowed = float(np.abs(found - expected).max()), _allowed(self.precision, known)
        if not error <= allowed:  # also true for NaN
            raise BackendError(
                f"OpenVINO differs from the result of the export by {error:.2g} in "
                f"{self.precision} at 64x64 | expected {allowed:.2g} at most | pass "
                "backend='onnxruntime', and report this"
            )
        return f"at 64x64 it differs from the result of the export by {error:.1e}"


def _allowed(precision: str, known: GraphRecord) -> float:
    """The largest difference of a result from that in `known`, and the allowed one."""
    if precision != FULL:
        return PRECISIONS[precision].limits.max_error_levels / 255
    # Each of the two results may differ from the exact one as much as PyTorch's at export.
    rounding = max((float(one.get("rounding", 0)) for one in known.parity), default=0.0)
    return max(MAX_ERROR, 2 * rounding)


def _check_form(model: Any) -> None:
    """Raise BackendError for a graph that does not have the tensor form."""
    found = [
        (sorted(end.get_names()), end.get_element_type().get_type_name(), end.get_partial_shape())
        for end in (*model.inputs, *model.outputs)
    ]
    for (names, kind, shape), name in zip(found, ("image", "restored"), strict=False):
        if name not in names or kind != "f32" or len(shape) != 4:
            break
    else:
        if len(found) == 2:
            return
    listed = ", ".join(f"{'/'.join(names)} {kind} {shape}" for names, kind, shape in found)
    raise BackendError(
        f"this graph does not have the 'tensor' form: it has {listed}, expected 'image' and "
        "'restored', float32 [N, 3, H, W]; export the bundle again"
    )


def open_backend(request: Request) -> OpenVinoCpu:
    """Open the float32 graph of a bundle in the requested precision.

    Raises:
        UsageError: OpenVINO does not support the request.
        BundleError, MissingDependencyError, BackendError: as `OpenVinoCpu` and `Request` do.
    """
    for name, value, only in (("device", request.device, 0), ("stream", request.stream, None)):
        if value != only:
            raise UsageError(
                f"{name}={value!r} is not supported by a CPU backend; leave {name} at {only!r}"
            )
    precision = FULL if request.precision == "auto" else request.precision
    if precision not in library.HINTS:
        raise UsageError(
            f"OpenVINO does not run {precision} here; choose {', '.join(library.HINTS)}"
        )
    # It reads float32 for every precision, because it rounds weights itself, and better.
    bundle = request.bundle
    entry = bundle.graph(FULL, "tensor")
    _refuse_literal(entry)
    weights = entry.weights or entry.file
    pays = compiling_pays(request.expected)
    return OpenVinoCpu(
        functools.partial(bundle.private_graph, entry),
        precision,
        request.threads,
        ShapeMemory(bundle.manifest.architecture, bundle.manifest.files[weights]["bytes"]),
        bundle.digests(entry),
        entry.measured,
        request.max_memory,
        f"compiling for each size pays: {in_words(request.expected)} are expected" if pays else "",
    )


def _refuse_literal(entry: GraphEntry) -> None:
    # The file shows it too, but the manifest is quicker.
    if entry.form == "literal":
        raise BackendError(
            f"{entry.file} is the literal form, which uses antialias, and OpenVINO ignores it | "
            "export without --literal, or pass backend='onnxruntime'"
        )


def run_tiny_graph(_: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    """For `maxim-doctor`: run the tiny graph on an image."""
    core = library.openvino().Core()
    settings = library.settings_for(FULL, None)
    compiled = core.compile_model(core.read_model(TINY_GRAPH), library.DEVICE, settings)
    library.check_precision(compiled, FULL)
    restored: NDArray[Any] = compiled([image])[0]
    return restored
