"""OpenVINO does not move the tensors of channel attention, and its results stay the same."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from maxim_deploy.machine import openvino as library
from maxim_deploy.runtime.openvino_layouts import weigh_tokens

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")

SETTINGS = library.settings_for("fp32", 2)


@pytest.fixture(scope="module")
def core() -> Any:
    return library.openvino().Core()


def model_of(core: Any, graph: Path, *, weighed: bool) -> Any:
    model = library.read_model(core, graph)
    if weighed:
        assert weigh_tokens(model) > 0
    return model


def compiled(core: Any, model: Any, shape: tuple[int, ...]) -> Any:
    of_shape = model.clone()
    of_shape.reshape(list(shape))
    return core.compile_model(of_shape, library.DEVICE, SETTINGS)


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
def test_results_stay_the_same_to_the_bit(
    demo_bundle: Path, core: Any, shape: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    graph = demo_bundle / "fp32.tensor.onnx"
    plain, weighed = (
        compiled(core, model_of(core, graph, weighed=weighed), shape)([image])[0]
        for weighed in (False, True)
    )
    assert np.array_equal(plain, weighed)


def test_tensors_stay_where_they_are(demo_bundle: Path, core: Any) -> None:
    graph = demo_bundle / "fp32.tensor.onnx"
    plain, weighed = (
        moves(compiled(core, model_of(core, graph, weighed=weighed), (1, 3, 128, 128)))
        for weighed in (False, True)
    )
    products = weigh_tokens(library.read_model(core, graph))
    assert weighed <= plain - 2 * products, (plain, weighed, products)


def graph_of(
    folder: Path, *, weights: tuple[str | int, ...], axes: tuple[int, ...], results: int, swap: bool
) -> Path:
    """A transposed map times weights, reshaped. With more results others read it on the way."""
    factors = ["weights", "pixels"] if swap else ["pixels", "weights"]
    nodes = [
        helper.make_node("Transpose", ["map"], ["pixels"], perm=axes),
        helper.make_node("Mul", factors, ["product"]),
        helper.make_node("Reshape", ["product", "shape"], ["tokens"]),
    ]
    kinds = {"map": ("N", 8, "H", "W"), "weights": weights}
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, kinds.get(name)) for name in names]
        for names in (["map", "weights"], ["tokens", "product", "pixels"][:results])
    )
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 8])
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [shape])
    path = folder / "graph.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        (1, {}),
        (1, {"swap": True}),
        (1, {"weights": (1, 1, 1, 8)}),
        (0, {"weights": ("N", "H", "W", 8)}),
        (0, {"weights": ("N", 1, 1, 1)}),
        (0, {"weights": (8,)}),
        (0, {"axes": (0, 3, 2, 1), "weights": ("N", 1, 1, 8)}),
        (0, {"results": 2}),
        (0, {"results": 3}),
    ],
)
def test_only_products_with_channel_weights_change(
    core: Any, tmp_path: Path, changed: int, options: dict[str, Any]
) -> None:
    facts: dict[str, Any] = {
        "weights": ("N", 1, 1, 8),
        "axes": (0, 2, 3, 1),
        "results": 1,
        "swap": False,
    }
    path = graph_of(tmp_path, **{**facts, **options})
    plain, model = library.read_model(core, path), library.read_model(core, path)
    assert weigh_tokens(model) == changed
    random = np.random.default_rng(0)
    shape = {"N": 2, "H": 5, "W": 6}
    given = {
        end.get_any_name(): random.random(
            [shape.get(size, size) for size in sizes],
            np.float32,  # type: ignore[call-overload]
        )
        for end, sizes in zip(
            plain.inputs, [("N", 8, "H", "W"), {**facts, **options}["weights"]], strict=True
        )
    }
    expected, found = (
        core.compile_model(one, library.DEVICE, SETTINGS)(given) for one in (plain, model)
    )
    for before, after in zip(expected.values(), found.values(), strict=True):
        assert np.array_equal(before, after)
