"""Shapes and types of every value in a graph, at one size of its input.

Neither ONNX's shape inference nor the tracer's symbols give them all, so the graph is run once, and
only the shapes leave it: the run holds no more memory than any other.
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
    """A tensor in a graph: its shape, and the bytes of one element."""

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
    """Input, weights and the result of every node, by name.

    Args:
        model: with its weights in memory; either form.
        shape: of the input, in the form's own layout.

    Raises:
        UsageError: the graph has a subgraph, whose values no single run shows.
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
    """Shapes of all results, from a run of the graph in which each is followed by a `Shape`."""
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
    # In this order a `Shape` comes as soon as it can. By default all come last, and every value of
    # the graph lives until then: 19 GB of S-3 at 256x256.
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
