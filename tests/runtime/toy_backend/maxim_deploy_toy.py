"""A backend of another distribution: ONNX Runtime with its own defaults, in float32."""

from __future__ import annotations

from typing import Any

import onnxruntime
from numpy.typing import NDArray

from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.registry import BackendSpec
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.verdict import Verdict
from maxim_deploy.spec.profiles import Shape


class ToyBackend(Backend):
    name, device = "toy", "cpu"
    library = f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, request: Request) -> None:
        entry, path = request.best_graph(("fp32",))
        self.precision, self.io = entry.precision, entry.io
        self._session = _session(str(path))

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        return self._session.run(["restored"], {"image": image})[0]

    def bytes_for(self, shape: Shape) -> int:
        return 10_000 * shape.padded_pixels


def run_tiny_graph(_: Verdict, image: NDArray[Any]) -> NDArray[Any]:
    return _session(TINY_GRAPH).run(["restored"], {"image": image})[0]


def _session(graph: str | bytes) -> Any:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


SPEC = BackendSpec("toy", ToyBackend, label="Toy", probe=run_tiny_graph)
