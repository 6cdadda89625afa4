"""The live set of a graph: how much memory its execution order needs at the least.

A tensor lives from the node that makes it to the last node that reads it. The largest sum of living
tensors over all nodes is what a perfect allocator would need that computes nothing in place. It
depends on the graph alone, so it shows what a rewrite does to memory without a runtime's habits.

Weights and constants are not counted. The input lives throughout, for the caller holds it, and the
output from its node to the end. A view (Reshape and its kind) is the tensor that it looks at.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from maxim_deploy._optional import require
from maxim_deploy.errors import UsageError

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators whose result shares the memory of their first input."""


@dataclass(frozen=True)
class LiveSet:
    """The largest living set: its bytes, the node where it is reached, pixels of the input."""

    bytes: int
    node: str
    pixels: int

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes per pixel of the padded input."""
        return self.bytes / self.pixels


def live_set(graph: Path, shape: tuple[int, int, int, int]) -> LiveSet:
    """The live set of a graph of the `tensor` form for an input `[N, 3, H, W]`.

    Runs the graph once, to learn the shapes: neither ONNX's shape inference nor the tracer's
    symbols give them all.

    Raises:
        UsageError: the graph has subgraphs, which no single order executes.
    """
    model = onnx.load(str(graph))
    for node in model.graph.node:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise UsageError(f"{graph.name} has a subgraph in {node.name!r} ({node.op_type})")
    largest, where = _largest(model.graph, _sizes(model, shape))
    return LiveSet(largest, where, shape[0] * shape[2] * shape[3])


def operator_counts(graph: Path) -> Counter[str]:
    """Number of nodes of each type."""
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return Counter(node.op_type for node in nodes)


def _largest(graph: GraphProto, sizes: dict[str, int]) -> tuple[int, str]:
    owner = _owners(graph)
    last_use: dict[str, int] = {}
    for step, node in enumerate(graph.node):
        last_use |= {owner[name]: step for name in (*node.input, *node.output) if name in owner}
    ends = [*graph.input, *graph.output]
    last_use |= {owner[value.name]: len(graph.node) for value in ends if value.name in owner}
    living = {value.name for value in graph.input if value.name in owner}
    peaks = []
    for step, node in enumerate(graph.node):
        living |= {owner[name] for name in node.output if name in owner}
        peaks.append((sum(sizes[name] for name in living), node.name))
        living = {name for name in living if last_use[name] > step}
    return max(peaks, key=lambda peak: peak[0])


def _owners(graph: GraphProto) -> dict[str, str]:
    """Every counted tensor to the one whose memory it has; itself, unless it is a view."""
    constant = {value.name for value in graph.initializer}
    owner = {value.name: value.name for value in graph.input if value.name not in constant}
    for node in graph.node:
        if node.op_type == "Constant" or _is_view_of(node, constant):
            constant |= {*node.output}
            continue
        source = owner[node.input[0]] if node.op_type in VIEWS else None
        owner |= {name: source or name for name in node.output if name}
    return owner


def _is_view_of(node: NodeProto, constant: set[str]) -> bool:
    return node.op_type in VIEWS and node.input[0] in constant


def _sizes(model: ModelProto, shape: tuple[int, int, int, int]) -> dict[str, int]:
    """Bytes of every counted tensor that is not a view, from one run of the graph."""
    probe = copy.deepcopy(model)
    graph = probe.graph
    names = sorted({*_owners(graph).values()} - {value.name for value in graph.input})
    typed = onnx.shape_inference.infer_shapes(model).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*typed.input, *typed.value_info, *typed.output)
    }
    del graph.output[:]
    # Only the shape leaves the graph, so the run itself holds no more than any other.
    for name in names:
        graph.node.append(helper.make_node("Shape", [name], [f"shape of {name}"]))
        graph.output.append(
            helper.make_tensor_value_info(f"shape of {name}", TensorProto.INT64, None)
        )
    shapes = _run(probe, shape)
    found = dict(zip(names, shapes, strict=True)) | {value.name: shape for value in graph.input}
    return {name: int(np.prod(found[name])) * _itemsize(types[name]) for name in found}


def _run(model: ModelProto, shape: tuple[int, ...]) -> list[Any]:
    ort = require("onnxruntime", "cpu")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (source,) = session.get_inputs()
    shapes: list[Any] = session.run(None, {source.name: np.zeros(shape, np.float32)})
    return shapes


def _itemsize(element: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(element).itemsize)
