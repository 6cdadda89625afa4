"""Graphs by hand, of which every value can be worked out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

HEAD = """<ir_version: 10, opset_import: ["": 20]>
hand_made (float[N, 3, H, W] image) => (float[N, 3, H, W] restored) {
"""


def graph_of(body: str, **weights) -> ir.Model:
    """A graph from `[name] output = Operator <attributes> (inputs)` lines and its weights."""
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    arrays = {k: v.astype(np.float32) if v.dtype == float else v for k, v in arrays.items()}
    model = onnx.parser.parse_model(HEAD + body + "}")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


SMALL = """
    [pick] low = Slice (image, zero, end, axes, two)
    [body_conv] x = Conv <pads = [1, 1, 1, 1]> (low, kernel)
    [body_norm] n = LayerNormalization <axis = -1, epsilon = 1e-6> (x, scale)
    [attention_mean] m = ReduceMean (n, axes)
    [attention_gate] g = Sigmoid (m)
    [body_scaled] s = Mul (n, g)
    [body_doubled] d = Mul (s, factor)
    [up] u = Resize <mode = "linear"> (d, "", scales)
    [add] restored = Add (u, image)
"""


@pytest.fixture
def make_graph():
    return graph_of


@pytest.fixture
def small() -> ir.Model:
    """A tiny relative of MAXIM for 64 columns: convolution, norm, attention, resize, sum."""
    rng = np.random.default_rng(1)
    return graph_of(
        SMALL,
        kernel=rng.normal(0, 0.2, (3, 3, 3, 3)),
        scale=np.ones(32),
        zero=[0, 0],
        end=[2**40, 2**40],
        axes=[2, 3],
        two=[2, 2],
        factor=0.1,
        scales=[1.0, 1.0, 2.0, 2.0],
    )


@pytest.fixture(scope="session")
def demo(demo_bundle: Path) -> ir.Model:
    return ir.load(demo_bundle / "fp32.tensor.onnx")
