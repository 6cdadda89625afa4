"""Conversion: the right types, the fewest casts, the same function; and mistakes are seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.session import open_session
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.graph.precision.verify import verify_types

FLOAT, LOW = ir.DataType.FLOAT, ir.DataType.FLOAT16


def table_of(*patterns: str) -> PrecisionTable:
    return PrecisionTable("float16", tuple(Decision(p, "float32", "test") for p in patterns))


def casts(model: ir.Model) -> dict[str, str]:
    """What each Cast reads, and to which type it brings it."""
    return {
        node.inputs[0].name: node.outputs[0].dtype.numpy().name  # type: ignore[misc]
        for node in model.graph
        if node.op_type == "Cast"
    }


def test_types_and_casts_of_a_small_graph(small) -> None:
    low = low_precision(small, default_table("fp16"))
    types = {node.name: node.outputs[0].dtype for node in low.graph if node.op_type != "Cast"}
    islands = {"pick", "attention_mean", "add"}
    assert {name for name, dtype in types.items() if dtype == FLOAT} == islands
    assert casts(low) == {"low": "float16", "n": "float32", "m": "float16", "u": "float32"}
    weights = {name: value.dtype for name, value in low.graph.initializers.items()}
    assert {name for name, dtype in weights.items() if dtype == LOW} == {
        "kernel", "scale", "factor",
    }  # fmt: skip
    assert weights["scales"] == FLOAT and weights["axes"] == ir.DataType.INT64
    assert [(v.name, v.dtype) for v in (*low.graph.inputs, *low.graph.outputs)] == [
        ("image", FLOAT),
        ("restored", FLOAT),
    ]
    verify_types(low, default_table("fp16"))


def test_the_source_is_not_modified(small) -> None:
    before = ir.to_proto(small).SerializeToString()
    for precision in ("fp16", "bf16"):
        low_precision(small, default_table(precision))
    assert ir.to_proto(small).SerializeToString() == before


def test_without_islands_only_input_and_output_are_cast(small) -> None:
    low = low_precision(small, table_of())
    # `image` is read by two nodes and cast once
    assert casts(low) == {"image": "float16", "restored.float16": "float32"}
    assert low.graph.outputs[0].name == "restored"
    verify_types(low, table_of())


def test_a_weight_that_both_sides_need(make_graph) -> None:
    model = make_graph(
        """
        [one] x = Mul (image, shared)
        [two] y = Mul (x, shared)
        [three] restored = Mul (y, shared)
        """,
        shared=1 / 3,
    )
    low = low_precision(model, table_of("two"))
    inputs = {node.name: node.inputs[-1].name for node in low.graph if node.op_type == "Mul"}
    assert inputs == {"one": "shared", "two": "shared.float32", "three": "shared"}
    weights = {name: value.const_value.numpy() for name, value in low.graph.initializers.items()}
    assert weights["shared"] == np.float16(1 / 3)
    assert weights["shared.float32"] == np.float32(1 / 3)
    verify_types(low, table_of("two"))


def test_constants_in_nodes_are_converted(make_graph) -> None:
    model = make_graph(
        "[c] third = Constant <value = float {0.33333}> ()\n[m] restored = Mul (image, third)"
    )
    low = low_precision(model, table_of())
    assert low.graph.initializers["third"].dtype == LOW
    verify_types(low, table_of())


@pytest.mark.parametrize(("value", "fits"), [(65504.0, True), (70000.0, False), (-7e4, False)])
def test_a_weight_that_is_too_large(make_graph, value: float, fits: bool) -> None:
    model = make_graph("[m] restored = Mul (image, huge)", huge=[value])
    if fits:
        low_precision(model, table_of())
    else:
        with pytest.raises(ExportError, match="weight huge reaches 70000, too large for float16"):
            low_precision(model, table_of())
        assert casts(low_precision(model, table_of("m"))) == {}


def test_an_operator_without_the_type(make_graph) -> None:
    model = make_graph('[e] restored = Einsum <equation = "nchw->nchw"> (image)')
    with pytest.raises(
        ExportError, match="e: Einsum does not support bfloat16 at opset 22; make it fl"
    ):
        low_precision(model, PrecisionTable("bfloat16", ()))
    low_precision(model, PrecisionTable("bfloat16", (Decision("e", "float32", "test"),)))


def retype(low: ir.Model, name: str, dtype: ir.DataType) -> None:
    """Move a node to another precision, with casts around it: a graph that still runs."""
    node = next(node for node in low.graph if node.name == name)
    source, target = node.inputs[0], node.outputs[0]
    before = ir.node("Cast", [source], {"to": dtype}, name="planted before")
    after = ir.node("Cast", [target], {"to": target.dtype}, name="planted after")
    for cast, kind in ((before, dtype), (after, target.dtype)):
        cast.outputs[0].name, cast.outputs[0].type = cast.name, ir.TensorType(kind)
    target.replace_all_uses_with(after.outputs[0])
    after.replace_input_with(0, target)
    node.replace_input_with(0, before.outputs[0])
    target.type = ir.TensorType(dtype)
    low.graph.insert_before(node, before)
    low.graph.insert_after(node, after)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        (
            "attention_mean",
            LOW,
            "should be float32, but these are not: m, planted before",
        ),
        (
            "attention_gate",
            FLOAT,
            "should be float16, but these are not: g, planted bef",
        ),
    ],
)
def test_a_node_of_the_wrong_type_is_seen(small, name: str, dtype, message: str) -> None:
    low = low_precision(small, default_table("fp16"))
    retype(low, name, dtype)
    onnx.checker.check_model(ir.to_proto(low), full_check=True)
    with pytest.raises(ExportError, match=message):
        verify_types(low, default_table("fp16"))


def test_other_mistakes_are_seen(small) -> None:
    table = default_table("fp16")
    with pytest.raises(ExportError, match=r"body_conv should be float16, .* kernel, .*and 1 more"):
        verify_types(small, table)  # never converted
    low = low_precision(small, table)
    norm = next(node for node in low.graph if node.op_type == "LayerNormalization")
    norm.attributes["stash_type"] = ir.AttrInt64("stash_type", 10)
    with pytest.raises(ExportError, match=r"body_norm keeps its statistics in low precision"):
        verify_types(low, table)
    low = low_precision(small, table)
    retype(low, "up", LOW)  # casts between equal types around a node that was right
    with pytest.raises(
        ExportError, match=r"(add|up)/Cast_0 casts the result of the cast planted after"
    ):
        verify_types(low, table)
    low.graph.inputs[0].type = ir.TensorType(LOW)
    with pytest.raises(ExportError, match=r"the float16 graph mixes types: .*add"):
        verify_types(low, table)
    low = low_precision(small, table_of())
    low.graph.outputs[0] = low.graph.outputs[0].producer().inputs[0]
    with pytest.raises(
        ExportError, match=r"restored.float16 is float16, but inputs and outputs must"
    ):
        verify_types(low, table_of())


@pytest.mark.parametrize(("precision", "opset"), [("fp16", 20), ("bf16", 22)])
def test_demo_files(demo, tmp_path: Path, precision: str, opset: int) -> None:
    table = PrecisionTable.from_json(default_table(precision).to_json())
    low = low_precision(demo, table)
    verify_types(low, table)
    save_graph(low, tmp_path / "low.onnx", "low.weights", {})
    onnx.checker.check_model(tmp_path / "low.onnx", full_check=True)
    assert low.opset_imports[""] == opset
    assert low.graph.initializers.keys() == demo.graph.initializers.keys()
    whole = sum(value.const_value.nbytes for value in floats(demo))  # type: ignore[misc]
    half = sum(value.const_value.nbytes for value in floats(low))  # type: ignore[misc]
    assert half == pytest.approx(whole / 2, rel=1e-3)
    assert (tmp_path / "low.weights").stat().st_size < 0.6 * whole
    read = [node.inputs[0] for node in low.graph if node.op_type == "Cast"]
    assert len(set(read)) == len(read)
    assert not any(value.producer() and value.producer().op_type == "Cast" for value in read)


def floats(model: ir.Model) -> list[ir.Value]:
    kinds = (FLOAT, LOW, ir.DataType.BFLOAT16)
    return [value for value in model.graph.initializers.values() if value.dtype in kinds]


def test_the_small_graph_runs(small) -> None:
    image = np.random.default_rng(0).random((2, 3, 96, 64), np.float32)
    expected, found = (
        open_session(model).run(None, {"image": image})[0]
        for model in (small, low_precision(small, default_table("fp16")))
    )
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 1e-3


def test_the_json_says_what_was_converted(small) -> None:
    table = default_table("fp16")
    edited = json.loads(table.to_json())
    edited["decisions"].append({"pattern": "body_*", "type": "float32", "reason": "to be sure"})
    edited = PrecisionTable.from_json(json.dumps(edited))
    low = low_precision(small, edited)
    verify_types(low, edited)
    with pytest.raises(ExportError, match=r"body_conv should be float16"):
        verify_types(low, table)
