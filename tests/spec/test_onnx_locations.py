"""The files that a graph keeps weights in are known before any library opens them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from bundles import write_graph, write_manifest
from onnx import helper

from maxim_deploy.errors import BundleError
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.onnx_locations import weights_files


@pytest.mark.parametrize("inside", [False, True])
def test_every_location_is_found(tmp_path: Path, inside: bool) -> None:
    write_graph(tmp_path / "g.onnx", "a", "../b", "a", inside=inside)
    assert weights_files(tmp_path / "g.onnx") == {"a", "../b"}
    write_graph(tmp_path / "g.onnx")
    assert weights_files(tmp_path / "g.onnx") == set()


def test_locations_in_every_message_that_has_tensors(tmp_path: Path) -> None:
    def tensor(location: str) -> onnx.TensorProto:
        made = onnx.TensorProto(name=location, data_location=onnx.TensorProto.EXTERNAL)
        made.external_data.add(key="offset", value="0")
        made.external_data.add(key="location", value=location)
        return made

    def sparse(values: str, indices: str) -> onnx.SparseTensorProto:
        return onnx.SparseTensorProto(values=tensor(values), indices=tensor(indices))

    branch = helper.make_graph([], "branch", [], [], [tensor("branch")])
    node = helper.make_node("If", [], ["y"], then_branch=branch, value=tensor("attribute"))
    node.attribute.add(name="tensors", type="TENSORS").tensors.append(tensor("tensors"))
    node.attribute.add(name="graphs", type="GRAPHS").graphs.append(
        helper.make_graph([], "g", [], [], [tensor("graphs")])
    )
    node.attribute.add(name="s", type="SPARSE_TENSOR").sparse_tensor.CopyFrom(sparse("s1", "s2"))
    node.attribute.add(name="t", type="SPARSE_TENSORS").sparse_tensors.append(sparse("t1", "t2"))
    graph = helper.make_graph([node], "g", [], [], [tensor("initializer")])
    graph.sparse_initializer.append(sparse("i1", "i2"))
    model = helper.make_model(graph)
    inside = helper.make_node("Constant", [], ["x"], value=tensor("function"))
    model.functions.append(helper.make_function("d", "f", [], [], [inside], []))
    model.training_info.add().initialization.initializer.append(tensor("training"))
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    assert weights_files(tmp_path / "g.onnx") == {
        "branch", "attribute", "tensors", "graphs", "s1", "s2", "t1", "t2", "initializer",
        "i1", "i2", "function", "training",
    }  # fmt: skip


@pytest.mark.parametrize("content", [b"\x0f", b"\x3a\x05a", b"\x3b\x3c", b"\xff" * 12, b"\x09a"])
def test_what_is_no_protocol_buffer(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(ValueError):
        weights_files(tmp_path / "g.onnx")


@pytest.mark.parametrize("location", ["other", "../w", "/etc/passwd", "./w", "a/../w", ""])
def test_only_the_file_in_the_manifest_is_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "w").write_bytes(bytes(4))
    write_graph(tmp_path / "g.onnx", "w", location)
    entry = GraphEntry("g.onnx", "fp32", "tensor", "w", 20, 1)
    write_manifest(tmp_path, entry, settings={})
    bundle = Bundle.open(tmp_path)
    with pytest.raises(BundleError, match=rf"keeps weights in '{location}'; expected 'w', as the"):
        bundle.checked_graph(entry)
    with pytest.raises(BundleError, match="expected all weights in the graph"):
        bundle.checked_graph(replace(entry, weights=None))


def message(number: int, *parts: bytes) -> bytes:
    """A short field that holds a message, or text, in protocol buffers' own bytes."""
    content = b"".join(parts)
    assert number < 16 and len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def located(*entry: bytes) -> bytes:
    """A model with one initializer, whose external data have one entry."""
    return message(7, message(5, message(13, *entry)))


KEY, FINE, EVIL = message(1, b"location"), message(2, b"w"), message(2, b"evil")


@pytest.mark.parametrize(
    "model",
    [
        located(FINE, KEY, EVIL),  # the last value counts
        located(EVIL, message(1, b"offset"), KEY),  # and the last key
        located(KEY, FINE) + located(KEY, EVIL),  # graphs are merged
        message(7, message(5, message(13, KEY, FINE), message(13, KEY, EVIL))),
    ],
)
def test_what_a_parser_makes_of_repeated_fields_is_found(tmp_path: Path, model: bytes) -> None:
    proto = onnx.ModelProto.FromString(model)
    entries = [one for tensor in proto.graph.initializer for one in tensor.external_data]
    found = {one.value for one in entries if one.key == "location"}
    assert "evil" in found
    (tmp_path / "g.onnx").write_bytes(model)
    assert weights_files(tmp_path / "g.onnx") >= found
