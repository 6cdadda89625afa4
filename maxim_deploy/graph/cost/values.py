"""Shapes and types of every value in a graph, at one size of its input.

ONNX's shape inference and the tracer's symbols do not provide all of them. So the graph is run once
and returns only shapes, without more memory than any other run.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.machine.processors import threads_to_ask_for


@dataclass(frozen=True)
class Value:
    """A tensor in a graph: its shape, and the size of an element in bytes."""

    shape: tuple[int, ...]
    itemsize: int

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in memory, densely packed."""
        return self.elements * self.itemsize


def values_of(model: ModelProto, shape: tuple[int, ...]) -> dict[str, Value]:
    """Input, weights and all results of nodes, by name.

    Args:
        model: a graph of either form with its weights in memory.
        shape: shape of the input in the form's layout.

    Raises:
        UsageError: the graph has a subgraph, whose values a single run does not show.
        BackendError: ONNX Runtime cannot run the graph at this shape.
    """
    for node in model.graph.node:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise UsageError(f"the graph has a subgraph in {node.name!r} ({node.op_type})")
    typed = onnx.shape_inference.infer_shapes(model).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*typed.input, *typed.value_info, *typed.output)
    }
    shapes = _shapes(model, shape) | {value.name: shape for value in model.graph.input}
    values = {name: Value(found, _itemsize(types[name])) for name, found in shapes.items()}
    for weight in model.graph.initializer:
        values[weight.name] = Value(tuple(weight.dims), _itemsize(weight.data_type))
    return values


def _shapes(model: ModelProto, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of all results, from a run of the graph with a `Shape` after each result."""
    probe = copy.deepcopy(model)
    graph = probe.graph
    names = [name for node in graph.node for name in node.output if name]
    del graph.output[:]
    for name in names:
        graph.node.append(helper.make_node("Shape", [name], [f"shape of {name}"]))
        graph.output.append(
            helper.make_tensor_value_info(f"shape of {name}", TensorProto.INT64, None)
        )
    found = _run(probe, shape)
    return {name: tuple(map(int, dims)) for name, dims in zip(names, found, strict=True)}


def _run(model: ModelProto, shape: tuple[int, ...]) -> list[Any]:
    ort = require("onnxruntime", "cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads_to_ask_for()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # In this order each `Shape` runs as early as possible. By default all run last, and every value
    # lives until then: 19 GB for S-3 at 256x256.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    (source,) = model.graph.input
    dtype = helper.tensor_dtype_to_np_dtype(source.type.tensor_type.elem_type)
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found: list[Any] = session.run(None, {source.name: np.zeros(shape, dtype)})
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        dims = "x".join(map(str, shape))
        raise BackendError(f"ONNX Runtime cannot run the graph at {dims}: {error}") from error
    return found


def _itemsize(element: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(element).itemsize)
