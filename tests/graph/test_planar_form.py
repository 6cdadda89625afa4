"""The planar form: padding, types and axes around cores that are understood, and the demo's."""

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
from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.graph.checks import check_graph
from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.planar_form import planar_form
from maxim_deploy.imaging import Padding

SIZES = [(1, 1), (1, 70), (37, 53), (48, 48), (64, 80), (65, 130)]
TYPES = {"fp32": np.float32, "fp16": np.float16}


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


def planes(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).random(shape, np.float32)


@pytest.fixture(scope="module", params=TYPES)
def padding_shown(request: pytest.FixtureRequest) -> tuple[type, onnxruntime.InferenceSession]:
    """A planar form that also gives what the network sees, and its type outside."""
    model = planar_form(core(), request.param)
    (padded,) = (node.outputs[0] for node in model.graph if node.name == "pad/rows")
    model.graph.outputs.append(padded)
    return TYPES[request.param], session(model)


@given(st.integers(1, 3), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=25, deadline=None)
def test_the_network_sees_the_published_padding(padding_shown, batch, height, width) -> None:
    kind, running = padding_shown
    image = planes(batch, 3, height, width).astype(kind)
    output, padded = running.run(None, {"input": image})
    padding = Padding(height, width)
    expected = [padding.apply(one.transpose(1, 2, 0)).transpose(2, 0, 1) for one in image]
    assert output.dtype == padded.dtype == kind
    assert np.array_equal(padded, expected) and np.array_equal(output, image)


def test_clipped() -> None:
    body = """
        three = Constant<value_float = 3.0>()
        one = Constant<value_float = 1.0>()
        scaled = Mul(image, three)
        restored = Sub(scaled, one)"""
    image = planes(1, 3, 20, 22)
    (output,) = session(planar_form(core(body))).run(None, {"input": image})
    assert np.array_equal(output, (image * np.float32(3) - np.float32(1)).clip(0, 1))
    assert output.min() == 0 and output.max() == 1


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_of_the_inputs_size_a_runtime_infers_the_outputs(size: tuple[int, int]) -> None:
    """Whatever the output's axes are called: some hosts fix the input's only."""
    proto = ir.to_proto(planar_form(core()))
    source, result = proto.graph.input[0], proto.graph.output[0]
    for axis, side in zip((0, 2, 3), (1, *size), strict=True):
        source.type.tensor_type.shape.dim[axis].dim_value = side
        result.type.tensor_type.shape.dim[axis].dim_param = f"free{axis}"
    running = onnxruntime.InferenceSession(proto.SerializeToString())
    assert running.get_outputs()[0].shape == [1, 3, *size]


def test_the_axes_have_the_same_names_on_both_sides() -> None:
    running = session(planar_form(core()))
    assert running.get_inputs()[0].shape == running.get_outputs()[0].shape == ["N", 3, "H", "W"]
    assert (running.get_inputs()[0].name, running.get_outputs()[0].name) == ("input", "output")


def test_what_is_refused() -> None:
    with pytest.raises(ExportError, match="the planar form is made from the tensor form"):
        planar_form(core(image="uint8[N,H,W,3] image"))
    with pytest.raises(UsageError, match="unknown I/O type 'bf16'.*known: fp32, fp16"):
        planar_form(core(), "bf16")


@pytest.fixture(scope="module")
def demo_core(demo_bundle: Path) -> ir.Model:
    return ir.load(demo_bundle / "fp32.tensor.onnx")


@pytest.fixture(scope="module")
def demo_graph(demo_core: ir.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planar form of the demo, on disk, with weights of its own."""
    path = tmp_path_factory.mktemp("planar") / "fp32.planar.onnx"
    save_graph(planar_form(demo_core), path, "fp32.weights", {})
    return path


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_the_runtime_and_the_graph_agree(demo_bundle, demo_graph, size) -> None:
    image = planes(*size, 3)
    running = onnxruntime.InferenceSession(demo_graph)
    (output,) = running.run(None, {"input": image.transpose(2, 0, 1)[np.newaxis]})
    with maxim_deploy.load(demo_bundle, precision="fp32") as restorer:
        expected = restorer(image).clip(0, 1)
    assert np.abs(output[0].transpose(1, 2, 0) - expected).max() <= 1e-5


def test_all_forms_fit_one_weights_file(
    demo_bundle: Path, demo_core: ir.Model, demo_graph: Path
) -> None:
    made = planar_form(demo_core).graph.initializers
    assert list(made) == list(demo_core.graph.initializers)
    weights = (demo_bundle / "fp32.weights").read_bytes()
    assert demo_graph.with_name("fp32.weights").read_bytes() == weights


def test_the_file_is_checked(demo_graph: Path) -> None:
    check_graph(demo_graph, "planar")
    with pytest.raises(ExportError, match=r"must take float16 \[N, 3, H, W\].*not float32"):
        check_graph(demo_graph, "planar", "fp16")
    with pytest.raises(ExportError, match="must take `image` to a `restored` like it"):
        check_graph(demo_graph, "image")
    names = [node.name for node in onnx.load(demo_graph, load_external_data=False).graph.node]
    assert all(names) and len(set(names)) == len(names)
