"""OpenVINO does not move the tensors of channel attention, and its results stay the same."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from runtime.openvino_models import SETTINGS, compiled

import maxim_deploy
from maxim_deploy.machine import openvino as library
from maxim_deploy.runtime.openvino_layouts import MOST_PIXELS, compute_on_tokens

pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None, reason="pip install 'maxim-deploy[openvino]'"
)


@pytest.fixture(scope="module")
def core() -> Any:
    return library.openvino().Core()


def model_of(core: Any, graph: Path, *, changed: bool) -> Any:
    model = library.read_model(core, graph)
    if changed:
        assert compute_on_tokens(model, MOST_PIXELS) > 0
    return model


def moves(model: Any) -> int:
    """Operators that run and only change the layout of a tensor of four dimensions."""
    kinds = Counter[str]()
    for node in model.get_runtime_model().get_ordered_ops():
        is_image = len(node.get_output_partial_shape(0)) == 4
        # Those that only rename a layout are called `fake`.
        if is_image and not node.get_friendly_name().endswith("fake"):
            kinds[str(node.get_rt_info()["layerType"].value)] += 1
    return kinds["Transpose"] + kinds["Reorder"]


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 64, 128)])
def test_results_stay_the_same(demo_bundle: Path, core: Any, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    graph = demo_bundle / "fp32.tensor.onnx"
    plain, changed = (
        compiled(core, model_of(core, graph, changed=changed), shape)([image])[0]
        for changed in (False, True)
    )
    assert np.abs(plain - changed).max() < 5e-6


def test_tensors_stay_where_they_are(
    demo_bundle: Path, core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the form that a restorer has made for a size."""
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path))
    plain = library.read_model(core, demo_bundle / "fp32.tensor.onnx")
    with maxim_deploy.load(demo_bundle, backend="openvino") as restorer:
        restorer(np.zeros((128, 128, 3), np.float32))
        backend: Any = restorer._work.require_open()
        changed = moves(backend._shapes._kept[1, 3, 128, 128].model)
    # What is left is of the picture, and of small maps.
    assert changed <= 6 < 30 <= moves(compiled(core, plain, (1, 3, 128, 128)))


def test_products_of_the_largest_maps_stay_in_large_images(demo_bundle: Path, core: Any) -> None:
    small, large = (
        compute_on_tokens(library.read_model(core, demo_bundle / "fp32.tensor.onnx"), pixels)
        for pixels in (MOST_PIXELS, MOST_PIXELS + 1)
    )
    assert 0 < large < small


HEAD = """
<ir_version: 9, opset_import: ["" : 20]>
graph (float[N, 2, H, W] map, float[N, 2, H, W] other, float[N, 1, H, W] grey, %s weights)
  => (float[P, 2] tokens%s)
  <int64[2] flat = {-1, 2}, float[2, 1, 1, 1] kernel = {3, -2}, float[2] bias = {0.5, 1.5}>
"""
PER_CHANNEL = "float[N, 1, 1, 2]"
PIXELS = "pixels = Transpose <perm = [0, 2, 3, 1]> (map)"
PRODUCT = "product = Mul (pixels, weights)"
TOKENS = "tokens = Reshape (product, flat)"
WITH_SUMS = """
    weighed = Reshape (product, flat)
    others = Transpose <perm = [0, 2, 3, 1]> (other)
    residual = Reshape (others, flat)
    added = Add (residual, weighed)
    tokens = Add (added, residual)
"""
CONVOLUTION = "convolved = Conv (grey, kernel, bias)"
SUM = "added = Add (convolved, other)"
OF_SUM = "pixels = Transpose <perm = [0, 2, 3, 1]> (added) tokens = Reshape (pixels, flat)"
SIZES = {"N": 3, "H": 5, "W": 6}


@pytest.mark.parametrize(
    ("changed", "nodes", "weights", "more"),
    [
        (1, [PIXELS, PRODUCT, TOKENS], PER_CHANNEL, ""),
        (1, [PIXELS, "product = Mul (weights, pixels)", TOKENS], PER_CHANNEL, ""),
        (1, [PIXELS, PRODUCT, TOKENS], "float[1, 1, 1, 2]", ""),
        (1, [PIXELS, PRODUCT, WITH_SUMS], PER_CHANNEL, ""),
        (0, [PIXELS, PRODUCT, TOKENS], "float[N, H, W, 2]", ""),
        (0, [PIXELS, PRODUCT, TOKENS], "float[N, 1, 1, 1]", ""),
        (0, [PIXELS, PRODUCT, TOKENS], "float[2]", ""),
        (0, [PIXELS.replace("2, 3", "3, 2"), PRODUCT, TOKENS], PER_CHANNEL, ""),
        (0, [PIXELS, "product = Add (pixels, weights)", TOKENS], PER_CHANNEL, ""),
        (0, [PIXELS, PRODUCT, TOKENS], PER_CHANNEL, ", float[N, H, W, 2] pixels"),
        (0, [PIXELS, PRODUCT, TOKENS], PER_CHANNEL, ", float[N, H, W, 2] product"),
        (1, [CONVOLUTION, SUM, OF_SUM], PER_CHANNEL, ""),
        (1, [CONVOLUTION, "added = Add (other, convolved)", OF_SUM], PER_CHANNEL, ""),
        (
            1,
            [CONVOLUTION, "one = Add (map, other) added = Add (one, convolved)", OF_SUM],
            "float",
            "",
        ),
        (0, [CONVOLUTION, "added = Add (map, other)", OF_SUM], PER_CHANNEL, ""),
        (0, [CONVOLUTION, SUM, OF_SUM], PER_CHANNEL, ", float[N, 2, H, W] added"),
        (0, [CONVOLUTION, "added = Identity (convolved)", OF_SUM], PER_CHANNEL, ""),
        (0, [CONVOLUTION, SUM, OF_SUM.replace("2, 3", "3, 2")], PER_CHANNEL, ""),
    ],
)
def test_only_what_moves_a_map_changes(
    core: Any, tmp_path: Path, changed: int, nodes: list[str], weights: str, more: str
) -> None:
    path = tmp_path / "graph.onnx"
    graph = onnx.parser.parse_model(HEAD % (weights, more) + f"{{ {' '.join(nodes)} }}")
    onnx.save(graph, path)
    plain, model = library.read_model(core, path), library.read_model(core, path)
    assert compute_on_tokens(model, 3 * 5 * 6) == changed
    random = np.random.default_rng(0)
    shapes = {one.name: one.type.tensor_type.shape.dim for one in graph.graph.input}
    given = {
        name: random.random([one.dim_value or SIZES[one.dim_param] for one in shape], np.float32)
        for name, shape in shapes.items()
    }
    before, after = (
        core.compile_model(one, library.DEVICE, SETTINGS)(given).values() for one in (plain, model)
    )
    for one, other in zip(before, after, strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-6)
