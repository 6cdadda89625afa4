"""Hosts of ONNX files: each one's loading rules, then its pictures against the runtime's.

Their rules are made again here, as read in vs-mlrt (`common/onnx_utils.cpp`,
`vsort/vs_onnxruntime.cpp`), chaiNNer (`nodes/impl/onnx`) and darktable (`src/ai`). No public index
of packages has chaiNNer and darktable. `test_vapoursynth.py` runs vs-mlrt itself, where it is.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hosts.sizes import SIZES, TOLERANCE
from numpy.typing import NDArray

from maxim_deploy.hosts.order import Wishes
from maxim_deploy.parity.metrics import psnr


def vs_mlrt(path: Path, height: int, width: int) -> onnxruntime.InferenceSession:
    """The session of a clip of this size: the graph from its bytes, with the input's axes fixed."""
    model = onnx.load_model_from_string(path.read_bytes())
    assert len(model.graph.input) == len(model.graph.output) == 1
    source, result = (
        value.type.tensor_type.shape.dim for value in (*model.graph.input, *model.graph.output)
    )
    assert len(source) == len(result) == 4
    source[0].dim_value = result[0].dim_value = 1
    source[2].dim_value, source[3].dim_value = height, width
    for axis in (2, 3):
        result[axis].ClearField("dim_value")
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (source,), (result,) = session.get_inputs(), session.get_outputs()
    assert source.name == "input"  # what its wrapper around trtexec takes it to be called
    assert source.type in ("tensor(float)", "tensor(float16)") and result.type == source.type
    assert source.shape == [1, 3, height, width]
    # The clip that it makes has its size times these; a free axis would be -1.
    assert [int(b / a) for a, b in zip(source.shape, result.shape, strict=True)] == [1] * 4
    return session


def chainner_multiple(path: Path) -> int | None:
    """The multiple that chaiNNer takes a model to need; None for none."""
    for size in (16, 64, 256, 512):
        model = onnx.load_model_from_string(path.read_bytes())
        source = model.graph.input[0].type.tensor_type.shape.dim
        assert source[1].dim_value == 3  # at most four channels, and second: planes
        for axis, side in ((0, 1), (2, size), (3, size)):
            source[axis].dim_value = side
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        except onnx.shape_inference.InferenceError:
            continue
        result = inferred.graph.output[0].type.tensor_type.shape.dim
        if result[2].HasField("dim_value") and result[3].HasField("dim_value"):
            return size
    return None


def run(session: onnxruntime.InferenceSession, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture `[3, H, W]` as hosts hand it over, in the type that the graph takes."""
    half = session.get_inputs()[0].type == "tensor(float16)"
    batch = image[np.newaxis].astype(np.float16 if half else np.float32)
    (restored,) = session.run(None, {session.get_inputs()[0].name: batch})
    return restored[0].astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_vapoursynth(write, expected, size: tuple[int, int]) -> None:
    image, restored = expected(size)
    session = vs_mlrt(write("vapoursynth") / "demo-denoise.fp32.onnx", *size)
    assert np.abs(run(session, image) - restored).max() <= TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_chainner(write, expected, size: tuple[int, int]) -> None:
    image, restored = expected(size)
    path = write("chainner") / "demo-denoise.fp32.onnx"
    assert chainner_multiple(path) is None  # so it pads nothing
    session = onnxruntime.InferenceSession(path)
    assert np.abs(run(session, image) - restored).max() <= TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_hub(write, expected, size: tuple[int, int]) -> None:
    image, restored = expected(size)
    session = onnxruntime.InferenceSession(write("hub") / "onnx" / "model.onnx")
    assert np.abs(run(session, image) - restored).max() <= TOLERANCE


@pytest.mark.parametrize("size", [(48, 48), (256, 256), (512, 512)])
def test_darktable(write, expected, tmp_path: Path, size: tuple[int, int]) -> None:
    """It tells the runtime the size of its square tiles by the axes' names."""
    with zipfile.ZipFile(write("darktable") / "denoise-maxim-demo-denoise.dtmodel") as archive:
        archive.extractall(tmp_path)
    (model,) = tmp_path.iterdir()
    config = json.loads((model / "config.json").read_text())
    assert {"id", "name", "description", "task", "backend", "version"} <= config.keys()
    assert (config["id"], config["task"], config["backend"]) == (model.name, "denoise", "onnx")
    assert "Apache" in (model / "LICENSE").read_text() and (model / "README.md").is_file()
    options = onnxruntime.SessionOptions()
    for axis, side in zip("NHW", (1, *size), strict=True):
        options.add_free_dimension_override_by_name(axis, side)
    session = onnxruntime.InferenceSession(model / "model.onnx", options)
    assert session.get_outputs()[0].shape == [1, 3, *size]
    image, restored = expected(size)
    assert np.abs(run(session, image) - restored).max() <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("io_type", ["fp32", "fp16"])
def test_half_precision(write, expected, io_type: str) -> None:
    wishes = Wishes(("fp16",), io_type)
    session = vs_mlrt(write("vapoursynth", wishes) / "demo-denoise.fp16.onnx", 37, 53)
    assert session.get_inputs()[0].type == f"tensor({'float16' if io_type == 'fp16' else 'float'})"
    image, restored = expected((37, 53))
    # Noise all over: 60 dB on a photograph is the limit, and 66 dB were seen on noise.
    assert psnr(run(session, image), restored, peak=1) > 55


def test_the_script_of_vapoursynth(write) -> None:
    folder = write("vapoursynth", Wishes(("fp32",)))
    script = (folder / "restore.vpy").read_text()
    ast.parse(script)
    assert "{{" not in script
    assert "vs.RGBS" in script and '"precision", "fp32"' in script
    half = write("vapoursynth", Wishes(("fp32",), "fp16"))
    assert "vs.RGBH" in (half / "restore.vpy").read_text()


def test_the_card_of_the_hub(write, demo_bundle: Path) -> None:
    folder = write("hub")
    card = (folder / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert "license: apache-2.0\n" in head and "pipeline_tag: image-to-image\n" in head
    digest = json.loads((demo_bundle / "manifest.json").read_text())["model"]["source_sha256"]
    assert digest in body and "from PyTorch" in body and "dB from float32" in body
    assert all((folder / name).is_file() for name in re.findall(r"\| `(.*?)` \|", body)[:3])
    assert sorted(path.name for path in folder.iterdir()) == [
        "LICENSE", "README.md", "model.safetensors", "onnx",
    ]  # fmt: skip


@pytest.mark.parametrize("host", ["vapoursynth", "chainner", "darktable", "comfyui"])
def test_every_host_has_a_readme_and_the_licence(write, host: str) -> None:
    folder = write(host)
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# demo-denoise\n")
    assert "| Licence of the weights | Apache-2.0 |" in readme
    assert "{" not in readme and len(readme.splitlines()) < 40
    assert (folder / "LICENSE").is_file()
