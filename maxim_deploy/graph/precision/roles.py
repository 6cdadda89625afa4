"""Roles of nodes in the network, found by following the data.

The same roles are found in the float32 graph and in the converted one: casts between float types
are skipped and have no role.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from maxim_deploy.graph.precision.type_constraints import bound_inputs, is_border, is_float

# fmt: off
MOVES = frozenset([
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split",
    "Concat", "Gather", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth",
])
# fmt: on
"""Operators that only move values, without rounding."""

_SCALING = frozenset(["Mul", "Div", "Add", "Sub", "Clip", "Round", "Cast"])
_DEVIATION = ("Reciprocal", "Sqrt", "Add", "ReduceMean", "Mul", "Sub")
_REDUCTIONS = frozenset(["ReduceMean", "ReduceSum", "GlobalAveragePool"])


def image_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Nodes that move, select or scale pixels of the input, before any weight."""
    pictures = set(graph.inputs)
    found = []
    for node in graph:
        data = _data_inputs(node)
        if not data or not pictures.issuperset(data):
            continue
        if is_border(node) or _keeps_pixels(node):
            pictures.update(node.outputs)
            found += [] if is_border(node) else [node]
    return found


def output_nodes(graph: ir.Graph) -> list[ir.Node]:
    """The Add whose sum the graph returns, and nodes that move, scale or round the sum."""
    found = []
    for output in graph.outputs:
        node = output.producer()
        while node is not None and (is_border(node) or _keeps_pixels(node)):
            found += [] if is_border(node) else [node]
            (value,) = _data_inputs(node)
            node = value.producer()
        # A network without a shortcut has no exact input to protect at the end.
        if node is None or node.op_type != "Add":
            return []
        found.append(node)
    return found


def spatial_means(graph: ir.Graph) -> list[ir.Node]:
    """Means and sums over positions, the first step of channel attention.

    LayerNorm's mean over channels is inside its own operator, or in one of `norm_deviations`.
    """
    others = set(norm_deviations(graph))
    found = [node for node in graph if node.op_type in _REDUCTIONS and is_float(node)]
    return [node for node in found if node not in others]


def norm_deviations(graph: ir.Graph) -> list[ir.Node]:
    """LayerNorms reduced to the reciprocal of the deviation, made of several operators.

    `1 / sqrt(mean((x - mean(x))^2) + eps)`, as in the GPU's form.
    """
    found = []
    for node in graph:
        steps = _upwards(node, _DEVIATION)
        mean = steps[-1].inputs[1].producer() if steps and steps[-1].inputs[1] else None
        if mean is not None and mean.op_type == "ReduceMean":
            found += [mean, *reversed(steps)]
    return found


def layer_norms(graph: ir.Graph) -> list[ir.Node]:
    """Every LayerNormalization."""
    return [node for node in graph if node.op_type == "LayerNormalization"]


ROLES: dict[str, Callable[[ir.Graph], list[ir.Node]]] = {
    "image": image_nodes,
    "output-sum": output_nodes,
    "spatial-mean": spatial_means,
    "layer-norm": layer_norms,
    "norm-deviation": norm_deviations,
}


def _upwards(node: ir.Node, operators: tuple[str, ...]) -> list[ir.Node]:
    """A node and the chain of its first inputs, if they are these operators; else empty."""
    steps: list[ir.Node] = []
    following: ir.Node | None = node
    for operator in operators:
        if following is None or following.op_type != operator:
            return []
        steps.append(following)
        following = following.inputs[0].producer() if following.inputs[0] else None
    return steps


def _data_inputs(node: ir.Node) -> list[ir.Value]:
    """Inputs of the node's type that are not constants. A Cast's input may have another type."""
    opset = node.graph.opset_imports[""] if node.graph else 0
    inputs = node.inputs if node.op_type == "Cast" else bound_inputs(node, opset).values()
    return [value for value in inputs if value is not None and not value.is_initializer()]


def _keeps_pixels(node: ir.Node) -> bool:
    """Whether a node with one data input only moves, scales or rounds it."""
    if len(_data_inputs(node)) != 1:
        return False
    # Interpolation computes new values, but the nearest mode selects pixels.
    if node.op_type == "Resize":
        return node.attributes.get_string("mode", "nearest") == "nearest"
    constants = [value for value in node.inputs if value is not None and value.is_initializer()]
    # A scalar scales pixels. A tensor is a weight, and its results are features.
    scalars = all(value.shape is not None and value.shape.numpy() == () for value in constants)
    return node.op_type in MOVES or (node.op_type in _SCALING and scalars)
