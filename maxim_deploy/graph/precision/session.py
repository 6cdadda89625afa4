"""Run a graph in memory with ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.machine.processors import threads_to_ask_for


def open_session(model: ir.Model) -> Any:
    """An ONNX Runtime session (CPU) on a graph of at most 2 GB. Weights are copied.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    ort = require("onnxruntime", "cpu")
    loaded = ir.external_data.load_to_model(model.clone())
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads_to_ask_for()
    # Buffer reuse chains live buffers, so none is freed: three times the memory.
    options.enable_mem_reuse = False
    # In the file's order a reduction directly follows its source, so the source can be freed.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.log_severity_level = 3
    return ort.InferenceSession(
        ir.to_proto(loaded).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def open_network(model: ir.Model) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """One of our graphs as a function from `image` to `restored`, both in the graph's form.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    session = open_session(model)

    def run(batch: NDArray[Any]) -> NDArray[Any]:
        restored: NDArray[Any] = session.run(["restored"], {"image": batch})[0]
        return restored

    return run
