"""What the library says, and what we make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxim_deploy.engines.budget import build_within
from maxim_deploy.engines.building import BuiltEngine, OutOfTimeError
from maxim_deploy.engines.layers import (
    Layer,
    Tensor,
    layers_beside,
    layers_from_json,
    layers_from_log,
    layers_to_json,
)
from maxim_deploy.engines.messages import failure, log_text, memory_figures, nodes_in
from maxim_deploy.errors import EngineError
from maxim_deploy.machine.tensorrt import readable_type

CANNOT = (
    "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any "
    "implementation for node {ForeignNode[stages/0/Gemm_0...stages/0/Gemm_9]}.)"
)
NO_SPACE = "Tactic Selection: no tactics to implement the operation within workspace limit."


def test_a_failure_says_what_where_and_what_to_do() -> None:
    messages = [
        ("INTERNAL_ERROR", "Thread context has not been set! Using global log stream."),
        ("WARNING", "not an error"),
        ("ERROR", CANNOT),
        ("ERROR", NO_SPACE),
    ]
    text = failure(messages)
    assert text.startswith("IBuilder::buildSerializedNetwork: Error Code 10")
    assert " | at ONNX node stages/0/Gemm_0...stages/0/Gemm_9 | what to do: a layer needs" in text
    assert failure([("WARNING", "x")]).startswith("the library gives no reason")
    assert "needs an NVIDIA GPU" in failure([("ERROR", "CHECK(status == CUDA_SUCCESS) failed.")])


def test_nodes_in_messages() -> None:
    assert nodes_in("In node 3 with name: stages/0/encoder/1/Conv_0 and operator: Conv") == [
        "stages/0/encoder/1/Conv_0"
    ]
    assert nodes_in("nothing here") == []


def test_the_log_explains_and_counts() -> None:
    text = log_text(
        [
            ("WARNING", "Skipping tactic 0x1 due to insufficient memory on requested size."),
            ("WARNING", "Skipping tactic 0x1 due to insufficient memory on requested size."),
            ("VERBOSE", "chatter"),
            ("ERROR", NO_SPACE),
            ("INFO", "Engine generation completed in 5 seconds."),
        ]
    )
    assert text.splitlines() == [
        "WARNING: Skipping tactic 0x1 due to insufficient memory on requested size. (2 times)",
        "    harmless: one of several ways to compute a layer does not work here; others do",
        f"ERROR: {NO_SPACE}",
        "    a layer needs more scratch memory: raise the workspace limit, or omit it",
        "INFO: Engine generation completed in 5 seconds.",
    ]


def test_memory_figures() -> None:
    said = ["Total Activation Memory: 100 bytes", "Max Scratch Memory: 90 bytes", "x"]
    said += ["Total Activation Memory: 300 bytes"]  # one line per profile: the largest counts
    figures = memory_figures([("INFO", text) for text in said])
    assert figures == {"activation_bytes": 300, "scratch_bytes": 90}


LISTED = """Layers:
Name: a_0, LayerType: signal, Inputs: [], Outputs: [], TacticName: , StreamId: 0, Metadata:
Name: Gemm+x, LayerType: gemm, Inputs: [ { Name: i, Dimensions: [64,8], Strides: [16,1], Datatype: \
Float, Format: x }], Constants: [ { Name: w, Dimensions: [8,4], Datatype: Half, Format: x }, \
{ Name: one, Dimensions: [], Datatype: Float, Format: x }], Outputs: [ { Name: o, \
Location: Device, Dimensions: [64,-1], Datatype: Half, Format: x }, { Name: p, Dimensions: [1], \
Format/Datatype: Channel major FP16 format where channel % 8 == 0 }], TacticName: t, \
StreamId: 0, Metadata: \
[ONNX Layer: stages/0/Gemm_0][ONNX Layer: stages/0/Gelu_0]

I/O Tensors:
 Name: image, DataType: Half
"""
READ, WEIGHT = Tensor("i", (64, 8), "float32"), Tensor("w", (8, 4), "float16")
ONE, OPEN, PART = (
    Tensor("one", (), "float32"), Tensor("o", (64, -1), "float16"), Tensor("p", (1,), "float16")
)  # fmt: skip


@pytest.mark.parametrize(
    "described, types",
    [
        ("Half", ("float16",)),
        ("Row major linear FP32", ("float32",)),
        ("Channel major FP16 format where channel % 8 == 0", ("float16",)),
        ("Channel major FP16 format where C % 8 == 0 and H Stride % 32 == 0", ("float16",)),
        ("Four wide channel vectorized row major Int8 format", ("int8",)),
        ("Two wide channel vectorized row major BF16 format", ("bfloat16",)),
    ],
)
def test_the_type_in_a_format(described: str, types: tuple[str, ...]) -> None:
    tensor = f"{{ Name: o, Dimensions: [8], Format/Datatype: {described} }}"
    line = f"Name: a, LayerType: conv, Outputs: [ {tensor}]"
    (layer,) = layers_from_log([("VERBOSE", f"Layers:\n{line}\n\n")])
    assert layer.types == types


def test_layers_of_a_build() -> None:
    layers = layers_from_log([("VERBOSE", "Layers are nice"), ("VERBOSE", LISTED)])
    assert layers == [
        Layer("a_0", "signal", (), ()),
        Layer(
            "Gemm+x",
            "gemm",
            ("float16",),
            ("stages/0/Gemm_0", "stages/0/Gelu_0"),
            inputs=(READ,),
            outputs=(OPEN, PART),
            constants=(WEIGHT, ONE),
        ),
    ]
    assert layers_from_json(layers_to_json(layers)) == layers
    assert layers_from_log([("INFO", "nothing")]) == []
    assert [readable_type(name) for name in ("BFloat16", "BF16", "UInt8", "FP16")] == [
        "bfloat16", "bfloat16", "uint8", "float16",
    ]  # fmt: skip


def test_bytes_of_tensors() -> None:
    assert [tensor.bytes for tensor in (READ, WEIGHT, ONE, OPEN, PART)] == [
        64 * 8 * 4,
        64,
        4,
        None,
        2,
    ]
    assert Tensor("q", (8,), "fp4").bytes is None


def test_a_list_without_tensors_is_read(tmp_path: Path) -> None:
    """As versions wrote it that kept only types and nodes."""
    old = {"name": "Gemm+x", "kind": "gemm", "types": ["float16"], "nodes": ["stages/0/Gemm_0"]}
    (tmp_path / "x.layers.json").write_text(json.dumps([old], indent=0) + "\n")
    assert layers_beside(tmp_path / "x.engine") == [
        Layer("Gemm+x", "gemm", ("float16",), ("stages/0/Gemm_0",))
    ]
    for damaged in ("", "{}", '[{"name": 1}]'):
        (tmp_path / "x.layers.json").write_text(damaged)
        assert layers_beside(tmp_path / "x.engine") == []
    assert layers_beside(tmp_path / "none.engine") == []


def attempts(slow_levels: set[int], tried: list[tuple[int, float]]):
    def build(level: int, seconds: float) -> BuiltEngine:
        tried.append((level, seconds))
        if level in slow_levels:
            raise OutOfTimeError("slow")
        return BuiltEngine(memoryview(b""), 1.0, level)

    return build


def test_a_budget_lowers_the_level_and_says_so() -> None:
    tried: list[tuple[int, float]] = []
    said: list[str] = []
    built = build_within(100, 5, attempts({5, 3}, tried), level_matters=True, progress=said.append)
    assert built.optimization_level == 1 and [level for level, _ in tried] == [5, 3, 1]
    assert all(seconds == pytest.approx(60, abs=1) for _, seconds in tried)
    assert said == [
        "optimization level 5 takes too long for the budget; trying 3",
        "optimization level 3 takes too long for the budget; trying 1",
    ]


def test_a_budget_that_is_too_small() -> None:
    tried: list[tuple[int, float]] = []
    with pytest.raises(EngineError, match="budget of 10 s, not even at optimization level 0"):
        build_within(10, 3, attempts({0, 1, 3}, tried), level_matters=True, progress=lambda _: None)
    assert [level for level, _ in tried] == [3, 1, 0]
    assert tried[-1][1] == pytest.approx(10, abs=1)  # the last attempt gets all that is left

    tried.clear()
    with pytest.raises(EngineError, match="builds no faster at a lower optimization level"):
        build_within(10, 3, attempts({3}, tried), level_matters=False, progress=lambda _: None)
    assert len(tried) == 1


def test_level_zero_has_one_attempt() -> None:
    tried: list[tuple[int, float]] = []
    build_within(10, 0, attempts(set(), tried), level_matters=True, progress=lambda _: None)
    assert [level for level, _ in tried] == [0]
