"""The two ends of a model, as Triton names them: compared with those of the graph that it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import BundleError
from maxim_deploy.serving.triton.tensors import INPUT, OUTPUT
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import GraphEntry

Signature = tuple[str, str, tuple[int, ...]]
"""Name, type as `config.pbtxt` has it, and axes without the first; -1 for one of any length."""


@dataclass(frozen=True)
class Ends:
    """What a model takes and gives, without the axis of the batch."""

    input: Signature
    output: Signature


IMAGE_ENDS = Ends(
    (INPUT, "TYPE_UINT8", (-1, -1, 3)),
    (OUTPUT, "TYPE_UINT8", (-1, -1, 3)),
)
"""Of the image form, and of our own model in the python backend."""

_TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
"""Of ONNX Runtime's words, those of `config.pbtxt`."""


def ends_of_graph(bundle: Bundle, entry: GraphEntry) -> Ends:
    """The ends of a graph of a bundle, read from its file.

    Raises:
        BundleError: the file is missing or has changed, or it has other ends than one input and
            one output with a free first axis.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    ort = require("onnxruntime", "cpu")
    options = ort.SessionOptions()
    # Nothing is run, so nothing needs to be optimised.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    with bundle.private_graph(entry) as path:
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            raise BundleError(f"ONNX Runtime cannot load {entry.file!r}: {error}") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or isinstance(inputs[0].shape[0], int):
        listed = ", ".join(f"{end.name!r} {end.type} {end.shape}" for end in (*inputs, *outputs))
        raise BundleError(
            f"graph {entry.file!r} has {listed} | expected one input and one output, with a free "
            "first axis | export the bundle again"
        )
    return Ends(_signature(inputs[0]), _signature(outputs[0]))


def _signature(end: Any) -> Signature:
    axes = tuple(axis if isinstance(axis, int) else -1 for axis in end.shape[1:])
    return end.name, _TYPES.get(end.type, end.type), axes
