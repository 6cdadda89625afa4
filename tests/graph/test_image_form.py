"""The image form: padding, pixels and sizes around cores that are understood, and the demo's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maxim_deploy
from maxim_deploy.errors import ExportError
from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.image_form import image_form
from maxim_deploy.imaging import Padding, from_unit, to_unit

SIZES = [(1, 1), (1, 70), (2, 2), (3, 5), (37, 90), (64, 64), (65, 130), (20, 22), (300, 451)]


def core(
    body: str = "restored = Identity(image)", image: str = "float[batch,3,h64,w64] image"
) -> ir.Model:
    """A graph of the tensor form that computes `body`."""
    restored = image.replace("image", "restored")
    return ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["": 20]> network ({image}) => ({restored}) {{ {body} }}'
    )


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())


def run(running: onnxruntime.InferenceSession, image: np.ndarray) -> list[np.ndarray]:
    return running.run(None, {"image": image})


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (*shape, 3), np.uint8)


@pytest.fixture(scope="module")
def padding_shown() -> onnxruntime.InferenceSession:
    """An image form that also gives what the network sees."""
    model = image_form(core())
    (padded,) = (node.outputs[0] for node in model.graph if node.name == "pad/rows")
    model.graph.outputs.append(padded)
    return session(model)


def test_every_side_up_to_200_is_padded_as_published(padding_shown) -> None:
    for size in range(1, 201):
        rows = np.repeat(np.arange(size, dtype=np.uint8), 3).reshape(1, size, 1, 3)
        expected = Padding(size, 1).apply(rows[0, :, :, 0])
        found = run(padding_shown, rows)[1][0, 0]
        assert np.array_equal(np.rint(found * 255), expected), f"rows, {size}"
        found = run(padding_shown, rows.transpose(0, 2, 1, 3))[1][0, 0]
        assert np.array_equal(np.rint(found * 255), expected.T), f"columns, {size}"


@given(st.integers(1, 3), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_the_network_sees_what_the_runtime_shows_it(padding_shown, batch, height, width) -> None:
    images = picture(batch, height, width)
    restored, padded = run(padding_shown, images)
    padding = Padding(height, width)
    expected = [to_unit(padding.apply(image)).transpose(2, 0, 1) for image in images]
    assert padded.dtype == np.float32 and np.array_equal(padded, expected)
    assert np.array_equal(restored, images)


@pytest.mark.parametrize("factor, offset", [(2, -0.5), (0.5, 0), (1e6, -5e5), (-1, 1)])
def test_clipped_and_rounded_as_the_runtime_does(factor: float, offset: float) -> None:
    body = f"""
        factor = Constant<value_float = {float(factor)}>()
        offset = Constant<value_float = {float(offset)}>()
        scaled = Mul(image, factor)
        restored = Add(scaled, offset)"""
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    values = to_unit(levels) * np.float32(factor) + np.float32(offset)
    (restored,) = run(session(image_form(core(body))), levels)
    assert np.array_equal(restored, from_unit(values, np.dtype(np.uint8)))
    if factor == 0.5:
        assert list(restored.ravel()[3:13:3]) == [0, 1, 2, 2]  # of 0.5, 1, 1.5, 2: halves to even


def test_what_is_cropped_away_still_counts() -> None:
    """A global mean sees the padded image, as channel attention does."""
    body = """
        axes = Constant<value_ints = [2, 3]>()
        mean = ReduceMean(image, axes)
        restored = Sub(image, mean)"""
    image = picture(37, 91)
    padded = to_unit(Padding(37, 91).apply(image))
    expected = from_unit(to_unit(image) - padded.mean((0, 1)), np.dtype(np.uint8))
    (restored,) = run(session(image_form(core(body))), image[np.newaxis])
    assert np.abs(restored[0].astype(int) - expected).max() <= 1  # the order of a sum may differ
    assert (restored[0] == expected).mean() > 0.999


def test_a_core_of_lower_precision() -> None:
    body = "half = Cast<to = 10>(image) restored = Cast<to = 1>(half)"
    image = picture(2, 20, 22)
    (restored,) = run(session(image_form(core(body))), image)
    assert np.array_equal(restored, image)  # 11 bits hold the 8 of a pixel


@pytest.mark.parametrize(
    "image",
    [
        "float[batch,3,h64,w64] image_in",
        "float16[batch,3,h64,w64] image",
        "float[batch,4,h64,w64] image",
        "float[3,h64,w64] image",
        "uint8[N,H,W,3] image",
    ],
)
def test_another_form_is_refused(image: str) -> None:
    with pytest.raises(ExportError, match="made from the tensor form.*this one has: image"):
        image_form(core(image=image))


@pytest.fixture(scope="module")
def demo_core(demo_bundle: Path) -> ir.Model:
    return ir.load(demo_bundle / "fp32.tensor.onnx")


@pytest.fixture(scope="module")
def demo_graph(demo_core: ir.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image form of the demo, on disk, with weights of its own."""
    path = tmp_path_factory.mktemp("image") / "fp32.image.onnx"
    save_graph(image_form(demo_core), path, "fp32.weights", {})
    return path


@pytest.fixture(scope="module")
def demo_session(demo_graph: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(demo_graph)


@pytest.fixture(scope="module")
def demo_restorer(demo_bundle: Path):
    with maxim_deploy.load(demo_bundle) as restorer:
        yield restorer


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_the_runtime_and_the_graph_agree(demo_restorer, demo_session, size) -> None:
    image = picture(*size)
    (restored,) = run(demo_session, image[np.newaxis])
    assert restored.dtype == np.uint8 and np.array_equal(restored[0], demo_restorer(image))


def test_batch(demo_session) -> None:
    images = picture(3, 65, 70)
    (restored,) = run(demo_session, images)
    each = [run(demo_session, image[np.newaxis])[0][0] for image in images]
    assert np.abs(restored.astype(int) - each).max() <= 1  # a matrix product may round otherwise


@pytest.mark.parametrize("size", [(1, 70), (37, 90)], ids=lambda size: "x".join(map(str, size)))
def test_graph_optimisation_changes_nothing(demo_graph: Path, demo_session, size) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    image = picture(1, *size)
    (plain,) = run(onnxruntime.InferenceSession(demo_graph, options), image)
    (optimised,) = run(demo_session, image)
    assert np.abs(plain.astype(int) - optimised).max() <= 1  # a value between two levels
    assert (plain == optimised).mean() > 0.999


def test_graph_file(demo_graph: Path) -> None:
    onnx.checker.check_model(str(demo_graph), full_check=True)
    graph = onnx.load(demo_graph, load_external_data=False).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["N", "H", "W", 3]
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "restored"]
    names = [node.name for node in graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_both_forms_fit_one_weights_file(
    demo_bundle: Path, demo_core: ir.Model, demo_graph: Path
) -> None:
    made = image_form(demo_core).graph.initializers
    assert list(made) == list(demo_core.graph.initializers)
    assert all(
        made[name].const_value is value.const_value
        for name, value in demo_core.graph.initializers.items()
    )
    weights = (demo_bundle / "fp32.weights").read_bytes()
    assert demo_graph.with_name("fp32.weights").read_bytes() == weights


def test_the_core_is_not_modified(demo_core: ir.Model) -> None:
    before = ir.to_proto(demo_core).SerializeToString(deterministic=True)
    image_form(demo_core)
    assert ir.to_proto(demo_core).SerializeToString(deterministic=True) == before
