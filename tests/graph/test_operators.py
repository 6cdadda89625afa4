"""Refusals that need no TensorRT, and whether the list agrees with it where it is installed."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.operators import (
    TENSORRT_OPERATORS,
    check_operators,
    refused_operators,
)


def graph(*nodes: str) -> ir.Model:
    return ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]> '
        f"network (float[n,3,h,w] x, float[4] s) => (float[n,c,p,q] y) {{ {' '.join(nodes)} }}"
    )


RESIZE = "a = Resize<mode = 'linear', {}>(x, , s)".replace("'", '"')


@pytest.mark.parametrize(
    "node, refused",
    [
        ("a = Det(x)", "Det"),
        ("a = com.microsoft.FusedConv(x, s)", "com.microsoft::FusedConv"),
        (RESIZE.format("antialias = 1"), "Resize (antialias=1)"),
        ('a = Resize<mode = "cubic">(x, , s)', "Resize (mode=cubic)"),
        (
            RESIZE.format('coordinate_transformation_mode = "half_pixel_symmetric"'),
            "Resize (coordinate_transformation_mode=half_pixel_symmetric)",
        ),
        (
            "a, m = LayerNormalization(x, s)",
            "LayerNormalization (with mean or deviation as outputs)",
        ),
    ],
)
def test_refused(node: str, refused: str) -> None:
    again = node.replace("a", "b", 1).replace("m =", "n =")
    model = graph("[first]" + node, "[second]" + again, "[last] y = Relu(a)")
    assert refused_operators(model) == {refused: ["first", "second"]}
    with pytest.raises(ExportError) as error:
        check_operators(model)
    assert f"{refused}: first, second" in str(error.value) and "last" not in str(error.value)


def test_a_graph_of_supported_operators_passes() -> None:
    model = graph(RESIZE.format("antialias = 0"), "b = LayerNormalization(a, s)", "y = Gelu(b)")
    assert refused_operators(model) == {}
    check_operators(model)


def test_long_lists_are_cut() -> None:
    nodes = [f"[det_{k}] a{k} = Det(x)" for k in range(7)]
    with pytest.raises(ExportError, match="Det: det_0, det_1, det_2, det_3, det_4 and 2 more"):
        check_operators(graph(*nodes, "y = Relu(x)"))


def test_every_name_is_an_operator_of_opset_22() -> None:
    assert all(onnx.defs.has(name, 22) for name in TENSORRT_OPERATORS)


def test_tensorrt_for_rtx_agrees() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parser = trt.OnnxParser(builder.create_network(0), logger)
    assert not [name for name in TENSORRT_OPERATORS if not parser.supports_operator(name)]
