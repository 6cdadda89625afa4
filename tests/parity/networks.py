"""A network of named blocks by hand, one of which low precision is bad for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from bundles import write_manifest

from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.manifest import GraphEntry

SMALL = Architecture(features=8, stages=2, groups=1, bottleneck_blocks=1)

HEAD = """<ir_version: 10, opset_import: ["": 20]>
hand_made (float[N, 3, H, W] image) => (float[N, 3, H, W] restored) {
"""

OFFSET = 300.0
"""Neighbours there are 0.25 apart in float16 and 2 in bfloat16."""

NETWORK = """
    [net__a__scale] a0 = Mul (image, third)
    [net__a__turn] a1 = Transpose <perm = [0, 1, 3, 2]> (a0)
    [net__a__relu] a2 = Relu (a1)
    [net__b__far__up] b0 = Add (a2, offset)
    [net__b__far__turn] b1 = Transpose <perm = [0, 1, 3, 2]> (b0)
    [net__b__far__down] b2 = Sub (b1, offset)
    [net__b__near__scale] b3 = Mul (b2, third)
    [net__b__near__relu] b4 = Relu (b3)
    [net__c__scale] c0 = Mul (b4, third)
    [net__c__gate] c1 = Sigmoid (c0)
    [net__sum] restored = Add (c1, image)
"""


def graph_of(body: str, **weights: float) -> ir.Model:
    """A graph whose nodes are named after blocks; `__` stands for a slash."""
    model = onnx.parser.parse_model(HEAD + body + "}")
    for node in model.graph.node:
        node.name = node.name.replace("__", "/")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.float32(value), name) for name, value in weights.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def hand_made() -> ir.Model:
    """Block `net/b/far` carries its values far from zero, where float16 is coarse."""
    return graph_of(NETWORK, third=1 / 3, offset=OFFSET)


def write_bundle(folder: Path, *, io: str = "tensor", literal: bool = False) -> Path:
    """A bundle of the hand-made network and a table of one needless island."""
    folder.mkdir()
    save_graph(hand_made(), folder / f"fp32.{io}.onnx", None, {"form": "deployment"})
    table = PrecisionTable("float16", (Decision("net/a/scale", "float32", "to be sure"),))
    (folder / "fp16.table.json").write_text(table.to_json())
    write_manifest(
        folder,
        GraphEntry(f"fp32.{io}.onnx", "fp32", io, None, 20, 11),
        settings={"literal": literal},
    )
    return folder
