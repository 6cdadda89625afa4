"""Check that TensorRT parsed the exported network, before a slow build."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from maxim_deploy._reading import load_json
from maxim_deploy.errors import EngineError, some_of
from maxim_deploy.machine.tensorrt import ParsedGraph, type_name
from maxim_deploy.spec.decoding import decoded
from maxim_deploy.spec.precision import LOW

_BINDINGS = {"image": ("uint8", (-1, -1, -1, 3)), "tensor": ("float32", (-1, 3, -1, -1))}
"""Type and axes of the input `image` and the output `restored`, by form; -1 is free."""

_FORM_NODES = ("scale/", "pad/", "crop/", "quantise/")
"""Nodes of the image form around the network. They scale and round pixels in float32."""

_DATA_LAYERS = (
    "CONSTANT",
    "SHUFFLE",
    "CAST",
    "SLICE",
    "GATHER",
    "UNSQUEEZE",
    "SQUEEZE",
    "IDENTITY",
)
"""Layers that move or convert values. An island needs them at its border."""


def check_network(parsed: ParsedGraph, precision: str, io: str, islands: Collection[str]) -> None:
    """Check names, types and free axes of input and output, and the layers in float32.

    Args:
        parsed: the network.
        precision: of its graph.
        io: form of its graph.
        islands: ONNX nodes that the decision table keeps in float32.

    Raises:
        EngineError: the network differs; the message lists all differences.
    """
    network = parsed.network
    problems = [*_binding_problems(network, io)]
    # A graph in full precision has only one float type.
    if precision in LOW:
        problems += _type_problems(network, precision, islands)
    if not network.num_layers:
        problems.append("it has no layers")
    if problems:
        raise EngineError(f"the parsed network is not the exported one: {'; '.join(problems)}")


def _binding_problems(network: Any, io: str) -> list[str]:
    dtype, axes = _BINDINGS[io]
    inputs = [network.get_input(k) for k in range(network.num_inputs)]
    outputs = [network.get_output(k) for k in range(network.num_outputs)]
    problems = []
    for kind, name, tensors in (("input", "image", inputs), ("output", "restored", outputs)):
        found = [(tensor.name, type_name(tensor.dtype), tuple(tensor.shape)) for tensor in tensors]
        expected = [(name, dtype, axes)]
        if found != expected:
            problems.append(f"{kind} {found}, expected {expected}")
    return problems


def _type_problems(network: Any, precision: str, islands: Collection[str]) -> list[str]:
    """Layers in float32 that should be low precision, and the reverse."""
    wide, narrow, seen = [], [], set()
    for layer in (network.get_layer(k) for k in range(network.num_layers)):
        node, types = onnx_node(layer), _output_types(layer)
        seen.add(node)
        if "float32" in types and not _may_be_float32(layer, node, islands):
            wide.append(node or layer.name)
        # Around an island the parser moves and converts values without arithmetic.
        if node in islands and LOW[precision].type in types and layer.type.name not in _DATA_LAYERS:
            narrow.append(node)
    problems = []
    if wide:
        problems.append(f"float32 outside the decision table: {some_of(wide)}")
    if narrow:
        problems.append(f"{precision} inside the decision table's islands: {some_of(narrow)}")
    if missing := [node for node in islands if node not in seen]:
        problems.append(f"islands that are not in the network: {some_of(missing)}")
    return problems


def onnx_node(layer: Any) -> str:
    """The ONNX node of a parsed layer; empty for the parser's own layers."""
    match = re.search(r"\[ONNX Layer: ([^\]]+)\]", layer.metadata or "")
    return match[1] if match else ""


def _output_types(layer: Any) -> set[str]:
    return {type_name(layer.get_output(k).dtype) for k in range(layer.num_outputs)}


def _may_be_float32(layer: Any, node: str, islands: Collection[str]) -> bool:
    if node in islands or node.startswith(_FORM_NODES):
        return True
    # The parser's own layers have no node. A cast into an island has one that is not in the table.
    return layer.type.name in _DATA_LAYERS and (not node or "/Cast_" in node)


def islands_of(table: bytes) -> set[str]:
    """The nodes that the text of a decision table keeps in float32.

    Raises:
        EngineError: the text is not a decision table.
    """
    try:
        document = load_json(table)
        decisions = decoded(list[dict[str, Any]], document["decisions"], "decisions")
        islands = [one["nodes"] for one in decisions if one["type"] == "float32"]
        return {node for nodes in islands for node in decoded(dict[str, Any], nodes, "nodes")}
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"the bundle's decision table cannot be read: {error!r}") from error
