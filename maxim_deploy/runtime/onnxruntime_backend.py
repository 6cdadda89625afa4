"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError


class OnnxRuntimeCpu:
    """A session on one ONNX graph of either form; `run` may be called from many threads.

    Args:
        graph: the ONNX file; its weights file is read from beside it.
        threads: threads within one operator, or None for one per core.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: ONNX Runtime cannot load the graph.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, graph: Path, threads: int | None = None) -> None:
        ort = require("onnxruntime", "cpu")
        options = ort.SessionOptions()
        # The buffer-reuse planner chains buffers that then live to the end of a run: 9.2 kB per
        # pixel instead of 2.7, for no speed. The arena, which recycles them, stays on.
        options.enable_mem_reuse = False
        options.intra_op_num_threads = threads or 0
        try:
            self._session = ort.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            raise BackendError(f"ONNX Runtime cannot load {str(graph)!r}: {error}") from error
        self.library = f"onnxruntime {ort.__version__}"

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """Restore a batch in the graph's form; the same shape and type comes back.

        Raises:
            BackendError: ONNX Runtime failed, out of memory for instance.
        """
        try:
            outputs: list[Any] = self._session.run(["restored"], {"image": image})
        except Exception as error:
            shape = "x".join(map(str, image.shape))
            raise BackendError(f"ONNX Runtime failed on an input of {shape}: {error}") from error
        restored: NDArray[Any] = outputs[0]
        return restored
