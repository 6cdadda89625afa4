"""Bundles whose graphs are written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from maxim_deploy._files import sha256_of
from maxim_deploy.checkpoints import Checkpoint, parameter_shapes, write_safetensors
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.export_record import ExportRecord
from maxim_deploy.spec.manifest import GraphEntry, Manifest

ARCHITECTURE = Architecture(8, 1, 1, 1)

IDENTITIES = {
    ("fp32", "tensor"): "(float[N, 3, H, W] image) => (float[N, 3, H, W] restored)"
    "{ [stages__0__output__0__Relu_0] restored = Relu (image) }",
    ("fp16", "tensor"): "(float[N, 3, H, W] image) => (float[N, 3, H, W] restored) {"
    "[to_half] a = Cast <to = 10> (image)"
    "[stages__0__output__0__Relu_0] b = Relu (a)"
    "[to_float] restored = Cast <to = 1> (b) }",
    ("fp32", "image"): "(uint8[N, H, W, 3] image) => (uint8[N, H, W, 3] restored)"
    "{ [same] restored = Identity (image) }",
}
"""What the network of weights that are all zero does: it gives back its input."""


def write_identity_bundle(folder: Path) -> Path:
    """A bundle with literal weights and three graphs, all of which give back the picture."""
    folder.mkdir()
    arrays = {
        name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(ARCHITECTURE).items()
    }
    checkpoint = Checkpoint(arrays, ARCHITECTURE, Descriptor("tiny"))
    write_safetensors(folder / "source.safetensors", checkpoint)
    graphs = []
    for (precision, io), text in IDENTITIES.items():
        file = f"{precision}.{io}.onnx"
        head = '<ir_version: 10, opset_import: ["": 20]> identity '
        model = onnx.parser.parse_model(head + text)
        for node in model.graph.node:
            node.name = node.name.replace("__", "/")
        onnx.helper.set_model_props(model, {"form": "deployment"})
        onnx.save(model, folder / file)
        graphs.append(GraphEntry(file, precision, io, None, 20, len(model.graph.node)))
    write_manifest(folder, *graphs, settings={}, source="source.safetensors")
    return folder


def write_graph(path: Path, *locations: str, inside: bool = False) -> None:
    """The smallest graph with one float32 weight in each of these files; `inside` of a constant."""
    tensors = []
    for number, location in enumerate(locations):
        tensor = onnx.TensorProto(name=f"w{number}", data_type=onnx.TensorProto.FLOAT, dims=[1])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        tensors.append(tensor)
    nodes = [onnx.helper.make_node("Constant", [], [x.name], value=x) for x in tensors]
    graph = onnx.helper.make_graph(
        nodes if inside else [], "g", [], [], initializer=[] if inside else tensors
    )
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


def write_manifest(
    folder: Path, *graphs: GraphEntry, settings: dict[str, Any], source: str | None = None
) -> None:
    """Make a folder a bundle of these graphs; lists the files that are in it."""
    manifest = Manifest(
        model=Descriptor("tiny"),
        architecture=ARCHITECTURE,
        settings=settings,
        graphs=[*graphs],
        source=source,
        files={
            path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path in folder.iterdir()
        },
        export=ExportRecord(created="2026-01-01T00:00:00+00:00"),
    )
    Bundle(folder, manifest).write()
