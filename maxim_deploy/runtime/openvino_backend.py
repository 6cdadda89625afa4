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
from maxim_deploy.runtime.openvino_shapes import CompiledShapes
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.runtime.verdict import Verdict
from maxim_deploy.spec.export_record import GraphRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.onnx_resizing import resizes_with_antialias
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.profiles import Shape

MAX_ERROR = 5e-6
"""Largest difference from ONNX Runtime in float32, of values in [0, 1]. Seen: 1.5e-6 (S-2), 5e-7
(demo model); an antialias that is ignored costs 0.12."""

HOST_BYTES_PER_PIXEL = 64
"""Of arrays beside a run that come after forms were dropped for it; more than planning counts."""

GraphSource = Callable[[], AbstractContextManager[Path]]


class OpenVinoCpu(Backend):
    """A graph of the tensor form; one run at a time.

    Args:
        graph: gives the ONNX file, its weights beside it, for a block: at once and in each forked
            child.
        precision: to compute in, "fp32" or "bf16".
        threads: of one run, or None for one per core.
        memory: of a form and of a run.
        made_of: hashes of the graph and its weights, for the names of compiled files.
        known: what was measured of the graph at export; it may have the result to compare with.
        max_memory: bytes of the whole process, or None for what is free.
        why: it was taken, in words, if that is to be known.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        BackendError: OpenVINO cannot compile the graph, computes it wrongly, or not in this
            precision.
    """

    name, device, io = "openvino", "cpu", "tensor"
    takes_turns = True
    # Each number of images in a run would be a shape to compile.
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
        # Few jobs have pictures of this size.
        self._shapes.clear()

    def run(self, image: NDArray[Any], turn: Turn | None = None) -> NDArray[Any]:
        """Restore a batch; raises as `Backend.run`. A stop ends it between two operators."""
        shapes, stop = self._shapes or self._opened_again(), (turn or Turn()).stop
        request = shapes.take(image.shape, self._room(image)).request
        stop.raise_if_set()
        restored = np.empty_like(image)
        tensor = library.openvino().Tensor
        request.set_input_tensor(tensor(image, shared_memory=True))
        request.set_output_tensor(tensor(restored, shared_memory=True))
        try:
            # Started before a stop can cancel it: a request that is not running ignores that.
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
        """Memory that a run adds, the form for its shape included."""
        return self._memory.peak(shape.padded_pixels)

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`: the precision as OpenVINO says it, the comparison, telemetry."""
        hint = self._settings["INFERENCE_PRECISION_HINT"]
        said = f"OpenVINO says that it computes in {hint}; {self._comparison}"
        return tuple(filter(None, [said, self._why, library.telemetry()]))

    def held_bytes(self) -> int:
        """Memory of the compiled forms and of the last run."""
        return self._shapes.held_bytes if self._shapes else 0

    def release(self) -> None:
        """Give back the compiled forms; the next run of each shape compiles or reads it again."""
        if self._shapes:
            self._shapes.clear()

    def after_fork(self) -> None:
        """The forms have lost their threads: the child makes its own at the first run."""
        never_destroy(self._shapes)
        self._shapes, self._opening = None, threading.Lock()

    def close(self) -> None:
        """Give everything back."""
        if self._shapes:
            self._shapes.clear()
        self._shapes = None

    def _open(self) -> CompiledShapes:
        core = library.openvino().Core()
        runs = library.precisions_of(core)
        if self.precision not in runs:
            raise BackendError(
                f"OpenVINO computes no {self.precision} on this processor "
                f"({library.processor_of(core)}); choose {' or '.join(runs)}"
            )
        with self._graph() as path:
            if resizes_with_antialias(path):
                raise BackendError(
                    f"{path.name} shrinks with antialias, and OpenVINO would do it without | "
                    "export the bundle without --literal, or take backend='onnxruntime'"
                )
            model = library.read_model(core, path)
        _check_form(model)
        files = CompiledFiles(
            {**self._made_of, "settings": self._settings}, self.library, library.processor_of(core)
        )
        return CompiledShapes(core, model, self.precision, self._settings, files, self._memory)

    def _opened_again(self) -> CompiledShapes:
        with self._opening:
            if self._shapes is None:
                self._shapes = self._open()
            return self._shapes

    def _room(self, image: NDArray[Any]) -> int | None:
        """Bytes that forms and the run may take together now."""
        if self._max_memory is None:
            room = self.free_bytes()
        else:
            room = self._max_memory - resident_bytes() + self.held_bytes()
        return None if room is None else room - HOST_BYTES_PER_PIXEL * (image.size // 3)

    def _compared(self, known: GraphRecord) -> str:
        """Run the known picture, compare it with the export's result, and say how that went."""
        found = self.run(known_picture())
        if known.known_result is None:
            return (
                "not compared with ONNX Runtime, for this bundle has no result to compare with: "
                "export it again"
            )
        expected = np.frombuffer(known.known_result, "<f4").reshape(found.shape)
        error, allowed = float(np.abs(found - expected).max()), _allowed(self.precision, known)
        if not error <= allowed:  # also true for NaN
            raise BackendError(
                f"OpenVINO differs from the result of the export by {error:.2g} in "
                f"{self.precision} at 64x64 | expected {allowed:.2g} at most | take "
                "backend='onnxruntime', and report this"
            )
        return f"at 64x64 it differs from the result of the export by {error:.1e}"


def _allowed(precision: str, known: GraphRecord) -> float:
    """The largest difference of a result from the one in `known`."""
    if precision != FULL:
        return PRECISIONS[precision].limits.max_error_levels / 255
    # Two results that are each as far from the exact one as PyTorch's was at export.
    rounding = max((float(one.get("rounding", 0)) for one in known.parity), default=0.0)
    return max(MAX_ERROR, 2 * rounding)


def _check_form(model: Any) -> None:
    """Refuse a graph that is not of the tensor form; raises BackendError."""
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
        f"this is no graph of the 'tensor' form: it has {listed}, where 'image' and 'restored' are "
        "expected, float32 [N, 3, H, W]; export the bundle again"
    )


def open_backend(request: Request) -> OpenVinoCpu:
    """The float32 graph of a bundle, in the precision that is asked for.

    Raises:
        UsageError: something is asked for that it cannot do.
        BundleError, MissingDependencyError, BackendError: as `OpenVinoCpu` and `Request` do.
    """
    for name, value, only in (("device", request.device, 0), ("stream", request.stream, None)):
        if value != only:
            raise UsageError(
                f"{name}={value!r} cannot be honoured by a CPU backend; leave {name} at {only!r}"
            )
    precision = FULL if request.precision == "auto" else request.precision
    if precision not in library.HINTS:
        raise UsageError(f"OpenVINO runs no {precision} here; choose {', '.join(library.HINTS)}")
    # Whatever it computes in, it reads float32: it rounds weights by itself, and better.
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
    # Its file says so as well; the manifest saves reading it.
    if entry.form == "literal":
        raise BackendError(
            f"{entry.file} is the literal form, which shrinks with antialias: OpenVINO ignores "
            "that | export without --literal, or take backend='onnxruntime'"
        )


def run_tiny_graph(_: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    """For `maxim-doctor`: what the tiny graph makes of an image."""
    core = library.openvino().Core()
    settings = library.settings_for(FULL, None)
    compiled = core.compile_model(core.read_model(TINY_GRAPH), library.DEVICE, settings)
    library.check_precision(compiled, FULL)
    restored: NDArray[Any] = compiled([image])[0]
    return restored
