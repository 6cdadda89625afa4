"""Graphs as files: readable node names, provenance, weights in a file of their own."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path, PureWindowsPath

import onnx
import onnx_ir as ir

_SCOPES = "pkg.torch.onnx.name_scopes"
PRODUCER = "maxim-deploy"
_EMBED_BELOW = 1024
"""Tensors of fewer bytes stay in the graph, where tools can see shapes and small constants."""


def name_nodes(model: ir.Model) -> None:
    """Name nodes `<module path>/<operator>_<k>`.

    The names are an interface: precision tables, profiles and comparisons refer to them.
    The tracer leaves the module path in each node's metadata, next to file names and source lines
    of the machine that it ran on, and in the graph's sets in any order; the metadata is cleared.
    """
    seen: Counter[str] = Counter()
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        # The last scope is the traced operation itself, the one before it its innermost module.
        path = next((scope for scope in reversed(scopes[:-1]) if scope), "")
        stem = f"{path.replace('.', '/')}/{node.op_type}".lstrip("/")
        node.name = f"{stem}_{seen[stem]}"
        seen[stem] += 1
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()


def load_graph(path: Path) -> ir.Model:
    """Read a graph; its weights are mapped when they are used.

    The files may be links, also hard ones, as in a cache of Hugging Face's, with DVC or after
    `cp -al`. The libraries for ONNX refuse those, for a link may lead out of the graph's folder.
    The weights must be beside the graph.

    Raises:
        ValueError: the graph keeps weights outside of its folder.
        Exception: the file is no graph; protobuf and onnx_ir raise nearly any type.
    """
    model = ir.load(path)
    for value in model.graph.initializers.values():
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            value.const_value = _beside(path, tensor)
    return model


def _beside(graph: Path, tensor: ir.ExternalTensor) -> ir.ExternalTensor:
    """The tensor, without onnx_ir's own check, which a base folder of "" switches off."""
    name = str(tensor.location)
    if name != PureWindowsPath(name).name or name == "..":
        raise ValueError(f"weights in {name!r}, outside of the graph's folder")
    return ir.ExternalTensor(
        graph.with_name(name), tensor.offset, tensor.length, tensor.dtype,
        shape=tensor.shape, name=tensor.name or "", doc_string=tensor.doc_string,
    )  # fmt: skip


def load_whole_graph(path: Path) -> ir.Model:
    """As `load_graph`, with its weights in memory: the files may be removed."""
    return ir.external_data.load_to_model(load_graph(path))


def load_proto(path: Path) -> onnx.ModelProto:
    """Read a graph with its weights inside, at most 2 GB; raises as `load_graph`."""
    return ir.to_proto(load_whole_graph(path))


def save_beside(model: ir.Model, path: Path, metadata: dict[str, str]) -> None:
    """Write a graph made from one that `ir.load` has read, into the folder of that one.

    Args:
        model: reads the weights of the other graph where they lie.
        path: the graph's file, in the folder of the other one.
        metadata: is added to that of the other one.
    """
    model.metadata_props.update(metadata)
    ir.save(model, path)


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
    # The tracer's own version: other versions of it may make the same graph.
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, None, None
    if weights is None:
        ir.save(model, path)
    else:
        ir.save(model, path, external_data=weights, size_threshold_bytes=_EMBED_BELOW)
