"""Graphs as files: readable node names, provenance, and separate files of weights."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path, PureWindowsPath

import onnx
import onnx_ir as ir

_SCOPES = "pkg.torch.onnx.name_scopes"
PRODUCER = "maxim-deploy"
_EMBED_BELOW = 1024
"""Smaller tensors stay in the graph, where tools can see shapes and small constants."""


def name_nodes(model: ir.Model) -> None:
    """Name nodes `<module path>/<operator>_<k>`.

    The names are an interface: precision tables, profiles and comparisons refer to them. The tracer
        stores the module path in each node's metadata, beside file names and source lines of its
        machine and sets in random order. This metadata is cleared.
    """
    seen: Counter[str] = Counter()
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        # The last scope is the traced operation itself, and the one before it is its innermost
        # module.
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
    """Read a graph. Its weights are mapped on use.

    The files may be symbolic or hard links, as in caches of Hugging Face and DVC or after `cp -al`.
    ONNX libraries refuse links, because a link may lead out of the graph's folder. The weights must
    lie beside the graph.

    Raises:
        ValueError: the graph keeps weights outside of its folder.
        Exception: the file is not a graph; protobuf and onnx_ir raise nearly any type.
    """
    model = ir.load(path)
    for value in model.graph.initializers.values():
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            value.const_value = _beside(path, tensor)
    return model


def _beside(graph: Path, tensor: ir.ExternalTensor) -> ir.ExternalTensor:
    """The tensor, without onnx_ir's own check, which a base folder of "" disables."""
    name = str(tensor.location)
    if name != PureWindowsPath(name).name or name == "..":
        raise ValueError(f"weights in {name!r}, outside the graph's folder")
    return ir.ExternalTensor(
        graph.with_name(name), tensor.offset, tensor.length, tensor.dtype,
        shape=tensor.shape, name=tensor.name or "", doc_string=tensor.doc_string,
    )  # fmt: skip


def load_whole_graph(path: Path) -> ir.Model:
    """Load a graph with its weights in memory, so the files may be removed; see `load_graph`."""
    return ir.external_data.load_to_model(load_graph(path))


def load_proto(path: Path) -> onnx.ModelProto:
    """Read a graph with embedded weights, at most 2 GB. Raises as `load_graph`."""
    return ir.to_proto(load_whole_graph(path))


def save_beside(model: ir.Model, path: Path, metadata: dict[str, str]) -> None:
    """Write a graph derived from one that `ir.load` has read, into the same folder.

    Args:
        model: the derived graph, which uses the other's file of weights.
        path: file of the graph, in the same folder.
        metadata: entries to add to the other's metadata.
    """
    model.metadata_props.update(metadata)
    ir.save(model, path)


def save_graph(model: ir.Model, path: Path, weights: str | None, metadata: dict[str, str]) -> None:
    """Write a graph with its weights as ONNX external data beside it.

    Args:
        model: the graph. Only its metadata is modified.
        path: the graph's file.
        weights: name of the file of weights in the same folder, which is overwritten. Both I/O
            forms of a precision write the same bytes. None embeds the weights in the graph's file.
        metadata: entries of the file's `metadata_props`, which every ONNX tool shows.
    """
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    # The tracer's version is dropped, because other versions may make the same graph.
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, None, None
    if weights is None:
        ir.save(model, path)
    else:
        ir.save(model, path, external_data=weights, size_threshold_bytes=_EMBED_BELOW)
