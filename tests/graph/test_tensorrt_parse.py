"""TensorRT for RTX on graphs of both forms: parsing, refusals, and engines of the image form."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.image_form import image_form
from maxim_deploy.graph.tensorrt_parse import parse_with_tensorrt_rtx
from maxim_deploy.machine.tensorrt import type_name


@pytest.fixture
def trt():
    return pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")


def core(dtype: str = "float", mistake: str = "") -> ir.Model:
    """A tensor form: a 3x3 convolution in `dtype`, scaled by its mean over the whole image."""
    weights = np.random.default_rng(5).standard_normal((16, 3, 3, 3), np.float32) / 5
    listed = ", ".join(map(str, weights.ravel()))
    kind = ir.DataType[dtype.upper()].value
    return ir.from_onnx_text(f"""<ir_version: 10, opset_import: ["": 22]>
        network (float[batch,3,h64,w64] image) => (float[batch,3,h64,w64] restored)
        <float[16,3,3,3] weight = {{ {listed} }}, float[4] half = {{1, 1, 0.5, 0.5}}> {{
            {mistake}
            [to_inner] inner = Cast<to = {kind}>(image)
            [weight_to_inner] kernel = Cast<to = {kind}>(weight)
            [features] features = Conv<pads = [1, 1, 1, 1]>(inner, kernel)
            axes = Constant<value_ints = [2, 3]>()
            [mean] mean = ReduceMean(features, axes)
            [gate] gated = Mul(features, mean)
            channels = Constant<value_ints = [1]>()
            [sum] summed = ReduceSum(gated, channels)
            [to_outer] outer = Cast<to = 1>(summed)
            [residual] restored = Add(image, outer)
        }}""")


@pytest.fixture
def saved(tmp_path: Path):
    def save(model: ir.Model) -> Path:
        save_graph(model, tmp_path / "graph.onnx", "graph.weights", {})
        return tmp_path / "graph.onnx"

    return save


def bindings(network) -> list[tuple[str, str, tuple[int, ...]]]:
    """The one input and the one output of a network: name, type and axes."""
    assert (network.num_inputs, network.num_outputs) == (1, 1)
    ends = (network.get_input(0), network.get_output(0))
    return [(end.name, type_name(end.dtype), tuple(end.shape)) for end in ends]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_was_parsed(trt, saved, dtype: str) -> None:
    parsed = parse_with_tensorrt_rtx(saved(core(dtype)))
    assert parsed is not None and parsed.trt is trt
    free = (-1, 3, -1, -1)
    network = parsed.network
    assert bindings(network) == [("image", "float32", free), ("restored", "float32", free)]
    layers = [network.get_layer(k) for k in range(network.num_layers)]
    types = Counter(type_name(layer.get_output(0).dtype) for layer in layers)
    assert types[dtype] >= 5  # casts, convolution, mean, gate, sum
    assert types["float32"] >= 2  # cast back, residual


def test_image_form(trt, saved) -> None:
    parsed = parse_with_tensorrt_rtx(saved(image_form(core())))
    assert parsed is not None and not any(kind == "WARNING" for kind, _ in parsed.logger.messages)
    free = (-1, -1, -1, 3)
    assert bindings(parsed.network) == [("image", "uint8", free), ("restored", "uint8", free)]


def test_a_refusal_names_every_node_and_reason(trt, saved) -> None:
    mistakes = """
        [shrink] a = Resize<mode = "linear", antialias = 1>(image, , half)
        [shrink_again] b = Resize<mode = "linear", antialias = 1>(image, , half)
    """
    path = saved(core(mistake=mistakes))
    with pytest.raises(ExportError, match=f"TensorRT for RTX {trt.__version__} refuses graph.onnx"):
        parse_with_tensorrt_rtx(path)
    with pytest.raises(ExportError, match="shrink Resize.*Antialias.*; shrink_again Resize"):
        parse_with_tensorrt_rtx(path)


def test_mixed_types_are_refused(trt, saved) -> None:
    model = core()
    (cast,) = (node for node in model.graph if node.name == "to_inner")
    cast.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
    with pytest.raises(ExportError, match="features Conv"):
        parse_with_tensorrt_rtx(saved(model))


def test_missing_files(trt, saved, tmp_path: Path) -> None:
    path = saved(core())
    (tmp_path / "graph.weights").unlink()
    with pytest.raises(ExportError, match="the file: .*weight"):
        parse_with_tensorrt_rtx(path)
    with pytest.raises(ExportError, match="refuses none.onnx: the file: .*cannot be found"):
        parse_with_tensorrt_rtx(tmp_path / "none.onnx")


def test_nothing_is_printed(trt, saved, capfd) -> None:
    parse_with_tensorrt_rtx(saved(core("float16")))
    with pytest.raises(ExportError):
        parse_with_tensorrt_rtx(Path("none.onnx"))
    assert capfd.readouterr() == ("", "")


def test_without_tensorrt_nothing_is_parsed(saved, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert parse_with_tensorrt_rtx(saved(core())) is None


def engine_size(trt, path: Path) -> int:
    """Bytes of an engine for the image form, 64x64 to 512x512, built without a GPU."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, logger).parse_from_file(str(path))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((1, side, side, 3) for side in (64, 256, 512)))
    config.add_optimization_profile(profile)
    return memoryview(builder.build_serialized_network(network, config)).nbytes


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_an_engine_builds(trt, saved, dtype: str) -> None:
    assert engine_size(trt, saved(image_form(core(dtype)))) > 10_000


@pytest.mark.slow
def test_an_engine_of_the_demo_builds(trt, saved, demo_bundle: Path) -> None:
    model = ir.load(demo_bundle / "fp32.tensor.onnx")
    for node in model.graph:
        if node.op_type == "Resize":  # a literal export has it, and TensorRT does not
            node.attributes.pop("antialias", None)
    path = saved(image_form(model))
    assert parse_with_tensorrt_rtx(path) is not None
    assert engine_size(trt, path) > (demo_bundle / "fp32.weights").stat().st_size
