"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from maxim_deploy._memory import available_bytes
from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError
from maxim_deploy.imaging import Padding
from maxim_deploy.runtime.backend import OutOfMemoryError
from maxim_deploy.spec.architecture import MULTIPLE_OF, Architecture
from maxim_deploy.spec.profiles import Shape

BYTES_PER_PIXEL = 140
BYTES_PER_FEATURE = (42.5, 70.6)
"""Memory of a run per padded pixel: so much, and so much for each feature of a network of one stage
and of more. Measured from 512x512 to 1216x1344 on the demo model (410 to 600 bytes), S-1 (1380 to
1710) and S-2 (2100 to 2770), in both precisions: a CPU computes float16 in float32. The arena grows
in steps, which is why equal pixels can take 10 % more or less."""


def graph_takes(io: str, shape: Shape) -> bool:
    """Whether a graph of this form takes the shape: any, or multiples of 64."""
    return io == "image" or not (shape.height % MULTIPLE_OF or shape.width % MULTIPLE_OF)


def run_bytes(architecture: Architecture, shape: Shape) -> int:
    """Memory that a run in float32 takes at most, of images that are padded or will be."""
    padding = Padding(shape.height, shape.width)
    pixels = shape.batch * padding.padded_height * padding.padded_width
    per_feature = BYTES_PER_FEATURE[min(architecture.stages, 2) - 1]
    return round(pixels * (BYTES_PER_PIXEL + architecture.features * per_feature))


class OnnxRuntimeCpu:
    """A session on one ONNX graph of either form; `run` may be called from many threads.

    Implements `maxim_deploy.runtime.backend.Backend`.

    Args:
        graph: the ONNX file, `<precision>.<io>.onnx`; its weights file is read from beside it.
        threads: threads within one operator, or None for one per core.
        architecture: of the network, to know its memory; None if nobody will ask.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: ONNX Runtime cannot load the graph.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(
        self, graph: Path, threads: int | None = None, architecture: Architecture | None = None
    ) -> None:
        ort = require("onnxruntime", "cpu")
        options = ort.SessionOptions()
        # The buffer-reuse planner chains buffers that then live to the end of a run: 9.2 kB per
        # pixel instead of 2.7, for no speed. The arena, which recycles them, stays on.
        options.enable_mem_reuse = False
        # A memory pattern is a second plan, made on the first run and allocated beside the arena on
        # the next one of the same shape: twice the memory, for no speed.
        options.enable_mem_pattern = False
        options.intra_op_num_threads = threads or 0
        try:
            self._session = ort.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            raise BackendError(f"ONNX Runtime cannot load {str(graph)!r}: {error}") from error
        self.library = f"onnxruntime {ort.__version__}"
        self.precision, self.io = (
            graph.name.split(".")[:2] if graph.name.count(".") > 1 else ("", "")
        )
        self._architecture = architecture

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """Restore a batch in the graph's form; the same shape and type comes back.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape.
            BackendError: ONNX Runtime failed.
        """
        try:
            outputs: list[Any] = self._session.run(["restored"], {"image": image})
        except Exception as error:
            shape = "x".join(map(str, image.shape))
            text = f"ONNX Runtime failed on an input of {shape}: {error}"
            if isinstance(error, MemoryError) or _says_no_memory(str(error)):
                raise OutOfMemoryError(text) from error
            raise BackendError(text) from error
        restored: NDArray[Any] = outputs[0]
        return restored

    def takes(self, shape: Shape) -> bool:
        """Whether `run` takes images of this shape."""
        return graph_takes(self.io, shape)

    def bytes_for(self, shape: Shape) -> int:
        """Memory that a run adds to the process at most."""
        assert self._architecture is not None
        return run_bytes(self._architecture, shape)

    def free_bytes(self) -> int | None:
        """Memory that the system could give to this process now."""
        return available_bytes()

    def close(self) -> None:
        """Give the session back."""
        del self._session


def _says_no_memory(text: str) -> bool:
    return "bad_alloc" in text or "Failed to allocate memory" in text or "out of memory" in text
