"""`load()` and `Restorer`: a bundle as a function from image to image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, UsageError, nearest
from maxim_deploy.imaging import Padding, Rounding, check_image, from_unit, to_unit
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.manifest import Bundle, GraphEntry
from maxim_deploy.spec.recipes import chosen

BACKENDS = ("auto", "onnxruntime")
CPU_PRECISIONS = ("fp32", "fp16")
"""Best first. A CPU runs hardly any bfloat16 operator."""


@dataclass(frozen=True)
class RestorerInfo:
    """What a `Restorer` runs.

    Attributes:
        model: provenance of the weights.
        variant: "S-2" and so on, or None for any other size.
        precision: inside the graph, "fp32" or "fp16".
        io: form of the graph, "tensor", or "image" where the bundle has no other.
        backend: "onnxruntime".
        device: "cpu".
        library: the backend library and its version.
        multiple_of: both sides are padded to multiples of this before the network sees them.
    """

    model: Descriptor
    variant: str | None
    precision: str
    io: str
    backend: str
    device: str
    library: str
    multiple_of: int = MULTIPLE_OF


class Restorer:
    """Restores images; made by `load`. May be called from several threads at once.

    Use it as a context manager, or call `close`, to give its memory back.
    """

    def __init__(self, backend: OnnxRuntimeCpu, info: RestorerInfo) -> None:
        self._backend: OnnxRuntimeCpu | None = backend
        self.info = info

    def __call__(self, image: NDArray[Any], *, rounding: Rounding = "nearest") -> NDArray[Any]:
        """Restore one image.

        Args:
            image: RGB `[H, W, 3]` of any size from 1x1: uint8, uint16, or float32 in [0, 1]. Any
                strides; it is not modified.
            rounding: "nearest", or "truncate" as the published scripts save. For integers only.

        Returns:
            A new array of the same shape and type. Integers are clipped; float32 is not.

        Raises:
            UsageError: the array is not such an image, or the rounding is unknown.
            BackendError: the backend failed, or this restorer is closed.
        """
        if self._backend is None:
            raise BackendError("this Restorer is closed; load the bundle again")
        if rounding not in ("nearest", "truncate"):
            raise UsageError(f"rounding must be 'nearest' or 'truncate', not {rounding!r}")
        check_image(image)
        if self.info.io == "image":
            return self._run_image_form(self._backend, image, rounding)
        padding = Padding(*image.shape[:2])
        network_input = to_unit(padding.apply(image)).transpose(2, 0, 1)[np.newaxis]
        restored = self._backend.run(np.ascontiguousarray(network_input))
        cropped = padding.undo(restored[0].transpose(1, 2, 0))
        return np.ascontiguousarray(from_unit(cropped, image.dtype, rounding))

    @staticmethod
    def _run_image_form(
        backend: OnnxRuntimeCpu, image: NDArray[Any], rounding: Rounding
    ) -> NDArray[Any]:
        if image.dtype != np.uint8 or rounding != "nearest":
            raise UsageError(
                "this bundle has the image form only, which takes uint8 and rounds to nearest, "
                f"not {image.dtype} and {rounding!r}; export it with --io image,tensor"
            )
        restored: NDArray[Any] = backend.run(np.ascontiguousarray(image)[np.newaxis])[0]
        return restored

    def close(self) -> None:
        """Give the backend's memory back. A closed restorer cannot be called."""
        self._backend = None

    def __enter__(self) -> Restorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def load(
    bundle: str | Path,
    *,
    backend: str = "auto",
    precision: str = "auto",
    device: int = 0,
    threads: int | None = None,
    tile: int | Literal["auto", "off"] = "auto",
    overlap: int | None = None,
    max_memory: int | str | None = None,
    stream: int | None = None,
) -> Restorer:
    """Open a bundle and make it ready to restore images.

    Args:
        bundle: the directory that `maxim-export` wrote. Its files are checked against their hashes.
        backend: "auto" (the best that works here) or "onnxruntime" (CPU).
        precision: "auto" (float32 where the bundle has it, which a CPU runs fastest), "fp32" or
            "fp16".
        device: index of the GPU; a CPU backend takes 0 only.
        threads: CPU threads for one image; None for one per core.
        tile: "auto" or "off". This version runs every image whole and has no tiles of a fixed size.
        overlap: pixels by which tiles overlap; this version has no tiles, so None only.
        max_memory: memory limit; not available in this version, so None only.
        stream: CUDA stream; a CPU backend takes None only.

    Raises:
        UsageError: an argument is unknown or cannot be honoured.
        BundleError: the directory is not a bundle, or a file in it is missing or has changed.
        MissingDependencyError: the backend's library is not installed.
        BackendError: the backend cannot load the graph.
    """
    if backend not in BACKENDS:
        raise UsageError(
            f"unknown backend {backend!r}{nearest(backend, BACKENDS)}; this version has: "
            f"{', '.join(BACKENDS)}"
        )
    chosen("precision", [precision], ("auto", *CPU_PRECISIONS))
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    _refuse_unavailable(
        device=(device, 0), overlap=(overlap, None), max_memory=(max_memory, None),
        stream=(stream, None), tile=("auto" if tile == "off" else tile, "auto"),
    )  # fmt: skip

    opened = Bundle.open(bundle)
    entry = _chosen_graph(opened, precision)
    session = OnnxRuntimeCpu(_checked_graph(opened, entry), threads)
    return Restorer(
        session,
        RestorerInfo(
            model=opened.manifest.model,
            variant=opened.manifest.architecture.variant,
            precision=entry.precision,
            io=entry.io,
            backend=session.name,
            device=session.device,
            library=session.library,
        ),
    )


def _refuse_unavailable(**arguments: tuple[object, object]) -> None:
    """Refuse a value that would have no effect, rather than ignore it."""
    for name, (value, only) in arguments.items():
        if value != only:
            raise UsageError(
                f"{name}={value!r} cannot be honoured by the CPU backend of this version; "
                f"leave {name} at {only!r}"
            )


def _chosen_graph(bundle: Bundle, precision: str) -> GraphEntry:
    """The entry to run: the tensor form where the bundle has it, which takes every pixel type."""
    have = {(entry.precision, entry.io): entry for entry in bundle.manifest.graphs}
    wanted = CPU_PRECISIONS if precision == "auto" else (precision,)
    for candidate in ((p, io) for p in wanted for io in ("tensor", "image")):
        if candidate in have:
            return have[candidate]
    return bundle.graph(wanted[0], "tensor")  # says what there is instead


def _checked_graph(bundle: Bundle, entry: GraphEntry) -> Path:
    """The path of a graph whose files, its weights included, are the ones that were exported."""
    if entry.weights:
        bundle.checked(entry.weights)
    return bundle.checked(entry.file)
