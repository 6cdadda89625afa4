"""Graphs as files: readable node names, provenance, weights in a file of their own."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import onnx_ir as ir

_SCOPES = "pkg.torch.onnx.name_scopes"
_EMBED_BELOW = 1024
"""Tensors of fewer bytes stay in the graph, where tools can see shapes and small constants."""


def name_nodes(model: ir.Model) -> None:
    """Name nodes `<module path>/<operator>_<k>`.

    The names are an interface: precision tables, profiles and comparisons refer to them.
    The tracer leaves the module path in each node's metadata, next to file names and source lines
    of the machine that it ran on; the metadata is cleared.
    """
    seen: Counter[str] = Counter()
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        # The last scope is the traced operation itself, the one before it its innermost module.
        path = next((scope for scope in reversed(scopes[:-1]) if scope), "")
        stem = f"{path.replace('.', '/')}/{node.op_type}".lstrip("/")
        node.name = f"{stem}_{seen[stem]}"
        seen[stem] += 1
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()


def save_graph(model: ir.Model, path: Path, weights: str | None, metadata: dict[str, str]) -> None:
    """Write a graph, and its weights as ONNX external data beside it.

    Args:
        model: is not modified, but for its metadata.
        path: the graph's file.
        weights: name of the weights file, in the same folder, overwritten; both I/O forms of one
            precision write the same bytes. None embeds the weights in the graph's file.
        metadata: goes into the file's `metadata_props`, shown by every ONNX tool.
    """
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    if weights is None:
        ir.save(model, path)
    else:
        ir.save(model, path, external_data=weights, size_threshold_bytes=_EMBED_BELOW)
