"""OpenVINO adds the bias of spatial mixing in the pass of the gate, and results stay the same."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from runtime.openvino_models import SETTINGS, compiled

import maxim_deploy
from maxim_deploy.machine import openvino as library
from maxim_deploy.runtime.openvino_gates import add_at_gates
from maxim_deploy.runtime.openvino_layouts import MOST_PIXELS, compute_on_tokens

pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None, reason="pip install 'maxim-deploy[openvino]'"
)


@pytest.fixture(scope="module")
def core() -> Any:
    return library.openvino().Core()


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 64, 128)])
def test_results_of_a_network_stay_the_same(
    demo_bundle: Path, core: Any, shape: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    plain, changed = (library.read_model(core, demo_bundle / "fp32.tensor.onnx") for _ in range(2))
    branches = sum(
        node.get_friendly_name().endswith("/mix/Transpose_1") for node in plain.get_ops()
    )
    assert add_at_gates(changed) == branches > 0
    one, other = (compiled(core, model, shape)([image])[0] for model in (plain, changed))
    assert np.abs(one - other).max() < 5e-6


def passes(model: Any) -> int:
    """Operators that run and compute each value from values at the same place."""
    kinds = [
        node.get_rt_info()["layerType"].value
        for node in model.get_runtime_model().get_ordered_ops()
    ]
    return kinds.count("Subgraph") + kinds.count("Eltwise")


def test_a_restorer_has_one_pass_less_per_branch(
    demo_bundle: Path, core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path))
    model = library.read_model(core, demo_bundle / "fp32.tensor.onnx")
    compute_on_tokens(model, MOST_PIXELS)
    before = passes(compiled(core, model, (1, 3, 128, 128)))
    with maxim_deploy.load(demo_bundle, backend="openvino") as restorer:
        restorer(np.zeros((128, 128, 3), np.float32))
        backend: Any = restorer._work.require_open()
        after = passes(backend._shapes._kept[1, 3, 128, 128].model)
    assert before - after >= add_at_gates(model)


def mixings_of_sums(model: Any) -> int:
    """Mixings of blocks that read what a norm's bias was added to."""
    return sum(
        node.get_type_name() == "MatMul"
        and len(node.get_output_partial_shape(0)) == 3
        and node.input_value(1).get_node().get_type_name() == "Add"
        for node in model.get_ops()
    )


def test_in_blocks_the_bias_of_the_norm_joins(demo_bundle: Path, core: Any) -> None:
    model = library.read_model(core, demo_bundle / "fp32.tensor.onnx")
    before = mixings_of_sums(model)
    assert add_at_gates(model) == 2 * before > 0
    assert mixings_of_sums(model) == 0


HEAD = """
<ir_version: 9, opset_import: ["" : 20]>
graph (float[P, 3] gate, float[%s] normalized) => (float[P, 3] gated%s)
  <float[4, 1] bias = {1, -2, 3, 5}, float[1, 3] per_channel = {7, 8, -9},
   float[3] of_norm = {0.5, -0.25, 2}, int64[2] flat = {-1, 3}, int64 two = {2},
   int64[2] twice = {2, 2}, int64[1] rest = {-1}, int64[2] cell = {2, 6}>
"""
MIX = "product = MatMul (matrix, normalized)"
SUM = "mixed = Add (product, bias)"
GRID = """
    pixels = Shape <start = 1, end = 2> (normalized)
    half = Div (pixels, two)
    places = Concat <axis = 0> (twice, rest, half)
    split = Reshape (mixed, places)
    moved = Transpose <perm = [0, 2, 1, 3]> (split)
"""
BLOCK = """
    regions = Shape <start = 0, end = 1> (normalized)
    half = Div (regions, two)
    places = Concat <axis = 0> (rest, half, cell)
    split = Reshape (mixed, places)
    moved = Transpose <perm = [0, 2, 1, 3]> (split)
"""
GATE = "tokens = Reshape (moved, flat) gated = Mul (gate, tokens)"
WITH_NORM = """
    shifted = Add (normalized, of_norm)
    product = MatMul (matrix, shifted)
"""
ROWS, REGIONS = "4, X", "R, 4, 3"
SIZES = {"P": 24, "X": 18, "R": 6}


@pytest.mark.parametrize(
    ("changed", "nodes", "shape", "more"),
    [
        (1, [MIX, SUM, GRID, GATE], ROWS, ""),
        (1, [MIX, "mixed = Add (bias, product)", GRID, GATE], ROWS, ""),
        (1, [MIX, SUM, GRID, GATE.replace("gate, tokens", "tokens, gate")], ROWS, ""),
        (1, ["mixed = Gemm (matrix, normalized, bias)", GRID, GATE], ROWS, ""),
        (1, [MIX, SUM, BLOCK, GATE], REGIONS, ""),
        (1, [WITH_NORM, SUM, BLOCK, GATE], REGIONS, ""),
        (1, [WITH_NORM, SUM, BLOCK, GATE], REGIONS, ", float[R, 4, 3] shifted"),
        (1, [WITH_NORM, SUM, BLOCK, GATE], REGIONS, ", float[R, 4, 3] product"),
        (1, [WITH_NORM.replace("of_norm", "bias"), SUM, BLOCK, GATE], REGIONS, ""),
        (0, [MIX, "mixed = Add (product, per_channel)", BLOCK, GATE], REGIONS, ""),
        (0, [MIX, "mixed = Add (product, product)", BLOCK, GATE], REGIONS, ""),
        (0, [MIX, "mixed = Mul (product, bias)", BLOCK, GATE], REGIONS, ""),
        (0, [MIX, SUM, BLOCK, GATE], REGIONS, ", float[R, 4, 3] mixed"),
        (0, [MIX, SUM, BLOCK, GATE], REGIONS, ", float[P, 3] tokens"),
        (0, [MIX, SUM, BLOCK, GATE.replace("Mul", "Add")], REGIONS, ""),
        (0, [MIX, SUM, BLOCK, GATE.replace("gate, ", "per_channel, ")], REGIONS, ""),
        (0, [MIX, SUM, "moved = Identity (mixed)", GATE], REGIONS, ""),
    ],
)
def test_only_biases_of_mixing_move(
    core: Any, tmp_path: Path, changed: int, nodes: list[str], shape: str, more: str
) -> None:
    random = np.random.default_rng(0)
    proto = onnx.parser.parse_model(HEAD % (shape, more) + f"{{ {' '.join(nodes)} }}")
    matrix = onnx.numpy_helper.from_array(random.random((4, 4), np.float32), "matrix")
    proto.graph.initializer.append(matrix)
    onnx.save(proto, tmp_path / "graph.onnx")
    plain, model = (library.read_model(core, tmp_path / "graph.onnx") for _ in range(2))
    assert add_at_gates(model) == changed
    given = {
        one.name: random.random(
            [size.dim_value or SIZES[size.dim_param] for size in one.type.tensor_type.shape.dim],
            np.float32,
        )
        for one in proto.graph.input
    }
    before, after = (
        core.compile_model(one, library.DEVICE, SETTINGS)(given).values() for one in (plain, model)
    )
    for one, other in zip(before, after, strict=True):
        assert np.allclose(one, other, rtol=1e-5, atol=1e-5)
