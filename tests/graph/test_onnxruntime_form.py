"""The form for ONNX Runtime on a CPU: each rule where it must fire, and where it must not."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from maxim_deploy.errors import UsageError
from maxim_deploy.graph.onnxruntime_form.form import RULES, onnxruntime_form
from maxim_deploy.graph.onnxruntime_form.norms import ROWS
from maxim_deploy.spec.kinds import kind_of_name

CHANNELS = 4
CLOSE = 2e-6
"""Of values up to 4; the order of a sum differs. Seen: 5e-7."""

GELU = 'y = Gelu<approximate = "tanh">(p)'


def model(*nodes: str, shape: str = "p,4", outputs: str = "y") -> ir.Model:
    """A graph from `x` to `y` with weights of four channels."""
    random = np.random.default_rng(0)
    arrays = {
        "w": random.standard_normal((4, 4)), "b": random.standard_normal(4),
        "row": random.standard_normal((1, 4)), "ones": np.ones(4), "s": np.full(4, 2.0),
        "left": random.standard_normal((64, 64)), "column": random.standard_normal((64, 1)),
    }  # fmt: skip
    text = " ".join(f"[n{k}] {node}" for k, node in enumerate(nodes))
    results = ", ".join(f"float[{shape}] {name}" for name in outputs.split())
    found = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["": 20]> g (float[{shape}] x) => ({results}) {{ {text} }}'
    )
    used = {value.name for node in found.graph for value in node.inputs if value is not None}
    for name in used & arrays.keys():
        for node in found.graph:
            for k, value in enumerate(node.inputs):
                if value is not None and value.name == name and not value.is_initializer():
                    node.replace_input_with(k, _weight(found, name, arrays[name]))
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(found)))


def _weight(found: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    if name not in found.graph.initializers:
        tensor = ir.tensor(array.astype(np.float32), name=name)
        found.graph.register_initializer(ir.val(name, const_value=tensor))
    return found.graph.initializers[name]


def counts(graph: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph)


def run(graph: ir.Model, image: np.ndarray, *, optimised: bool = False) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    if not optimised:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    content = ir.to_proto(graph).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})


def rewritten(before: ir.Model, rule: str, *shape: int) -> ir.Model:
    """By one rule; it must compute the same, whatever ONNX Runtime makes of it."""
    image = np.random.default_rng(1).standard_normal(shape or (128, 4)).astype(np.float32)
    after = onnxruntime_form(before, (rule,))
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    for optimised in (False, True):
        found, expected = run(after, image, optimised=optimised), run(before, image)
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() <= CLOSE
    return after


def test_a_gelu_takes_the_bias_of_its_product() -> None:
    before = model("p = Gemm(x, w, b)", GELU)
    after = rewritten(before, "gelus")
    assert counts(after) == {"MatMul": 1, "FastGelu": 1}
    assert counts(before) == {"Gemm": 1, "Gelu": 1}  # is not modified
    assert after.opset_imports["com.microsoft"] == 1


@pytest.mark.parametrize(
    "nodes, reason",
    [
        (("p = Gemm(x, w, b)", "y = Gelu(p)"), "exact form"),
        (("p = Add(x, b)", GELU), "does not follow a Gemm"),
        (("p = Gemm(x, w, x)", GELU), "one number per column"),
        (("p = Gemm(x, w)", GELU), "one number per column"),
        (("p = Gemm<alpha = 2.0>(x, w, b)", GELU), "alpha is 2.0, not 1.0"),
        (("p = Gemm<transB = 1>(x, w, b)", GELU), "transB is set"),
        (("p = Gemm(x, w, b)", GELU.replace("y", "q", 1), "y = Add(p, q)"), "another node reads"),
    ],
)
def test_a_gelu_that_stays(nodes: tuple[str, ...], reason: str, caplog) -> None:
    before = model(*nodes)
    with caplog.at_level(logging.DEBUG):
        assert counts(rewritten(before, "gelus")) == counts(before)
    assert "gelus leaves n1: " in caplog.text and reason in caplog.text


def test_a_product_alone() -> None:
    assert counts(rewritten(model("y = Gemm(x, w)"), "products")) == {"MatMul": 1}


def test_the_bias_of_a_chain_moves_behind_it() -> None:
    chain = model("p = Gemm(x, w, b)", "q = Gemm(x, w, p)", "r = Gemm(x, w, q)", "y = Relu(r)")
    after = rewritten(chain, "biases")
    assert [node.op_type for node in after.graph] == ["Gemm", "Gemm", "Gemm", "Add", "Relu"]
    assert after.graph[0].inputs[2] is None
    assert after.graph[3].inputs[1] is after.graph.initializers["b"]
    whole = onnxruntime_form(chain)
    assert counts(whole)["MatMul"] == 3 and counts(whole)["Add"] == 3


@pytest.mark.parametrize(
    "nodes, reason",
    [
        (("p = Gemm(x, w, x)", "y = Gemm(x, w, p)"), "no bias of one number"),
        (("p = Gemm(x, w, b)", "y = Relu(p)"), "no other product adds to it"),
        (("p = Gemm(x, w, b)", "y = Gemm(p, w, b)"), "no other product adds to it"),
        (("p = Gemm(x, w, b)", "q = Gemm(x, w, p)", "y = Add(p, q)"), "no other product adds"),
        (("p = Gemm(x, w, b)", "y = Gemm<beta = 0.5>(x, w, p)"), "no other product adds to it"),
    ],
)
def test_a_bias_that_stays(nodes: tuple[str, ...], reason: str, caplog) -> None:
    before = model(*nodes)
    with caplog.at_level(logging.DEBUG):
        assert counts(rewritten(before, "biases")) == counts(before)
    assert reason in caplog.text


@pytest.mark.parametrize("addend", ["b", "row", "x"])
def test_a_product_and_its_addend(addend: str) -> None:
    after = rewritten(model(f"y = Gemm(x, w, {addend})"), "products")
    assert counts(after) == {"MatMul": 1, "Unsqueeze": 1, "Add": 1, "Squeeze": 1}


def test_products_from_the_left_and_in_a_chain() -> None:
    from_left = model("y = Gemm(left, x, column)", shape="64,p")
    assert counts(rewritten(from_left, "products", 64, 12))["MatMul"] == 1
    chain = model("p = Gemm(x, w, b)", "q = Gemm(x, w, p)", "y = Gemm(x, w, q)")
    assert counts(rewritten(chain, "products"))["Add"] == 3


@pytest.mark.parametrize(
    "nodes, reason",
    [
        (("p = Gemm(x, w, b)", "y = Relu(p)"), "fuses it with the activation"),
        (("p = Gemm(x, w, b)", "y = Sigmoid(p)"), "fuses it with the activation"),
        (("y = Gemm<beta = 0.5>(x, w, b)",), "beta is 0.5"),
    ],
)
def test_a_product_that_stays(nodes: tuple[str, ...], reason: str, caplog) -> None:
    before = model(*nodes)
    with caplog.at_level(logging.DEBUG):
        assert counts(rewritten(before, "products")) == counts(before)
    assert reason in caplog.text


@pytest.mark.parametrize("addend", ["b", "row", "x", "column"])
def test_no_optimizer_makes_a_gemm_again(addend: str, tmp_path: Path) -> None:
    """Then the file needs no session options."""
    is_left = addend == "column"
    node = "y = Gemm(left, x, column)" if is_left else f"y = Gemm(x, w, {addend})"
    before = model(node, shape="64,p" if is_left else "p,4")
    for graph, expected in ((before, 1), (onnxruntime_form(before), 0)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        made = onnx.load(tmp_path / "optimised.onnx").graph.node
        assert sum("Gemm" in node.op_type for node in made) == expected


@pytest.mark.parametrize("shape", [(2 * ROWS, 4), (3, ROWS, 4)])
def test_a_norm(shape: tuple[int, ...]) -> None:
    symbols = "p,4" if len(shape) == 2 else f"p,{ROWS},4"
    before = model("y = LayerNormalization<epsilon = 1e-3>(x, ones)", shape=symbols)
    after = rewritten(before, "norms", *shape)
    assert counts(after) == {"Reshape": 2, "InstanceNormalization": 1}


@pytest.mark.parametrize(
    "node, reason",
    [
        ("y = LayerNormalization(x, s)", "it has a scale"),
        ("y = LayerNormalization(x, ones, b)", "it has a shift"),
        ("y = LayerNormalization<axis = 0>(x, left)", "more than the last axis"),
    ],
)
def test_a_norm_that_stays(node: str, reason: str, caplog) -> None:
    before = model(node, shape="64,64" if "left" in node else "p,4")
    with caplog.at_level(logging.DEBUG):
        after = rewritten(before, "norms", *((64, 64) if "left" in node else ()))
    assert counts(after) == counts(before)
    assert reason in caplog.text


def test_new_nodes_lie_below_the_name_of_the_old_one() -> None:
    before = model("p = Gemm(x, w, b)", GELU, outputs="y")
    for node, name in zip(before.graph, ("stages/0/a/Gemm_0", "stages/0/b/Gelu_0"), strict=True):
        node.name = name
    names = [node.name for node in onnxruntime_form(before).graph]
    assert names == ["stages/0/b/Gelu_0/MatMul_0", "stages/0/b/Gelu_0/FastGelu_1"]
    assert list(map(kind_of_name, names)) == ["matrix product", "GELU"]


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown rule 'gelu'.*did you mean 'gelus'"):
        onnxruntime_form(model("y = Relu(x)"), ("gelu",))


def test_names_of_rules_are_those_that_are_measured() -> None:
    from maxim_deploy.benchmarks.subjects import RULES as MEASURED

    assert tuple(RULES) == MEASURED
