"""Bad input, and a property: any size, type and memory layout against the reference in PyTorch."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maxim_deploy
from maxim_deploy import BackendError, UsageError
from maxim_deploy._files import sha256_of
from maxim_deploy.checkpoints import open_model
from maxim_deploy.imaging import Padding, from_unit, to_unit
from maxim_deploy.model import module_from_checkpoint
from maxim_deploy.spec.bundle import Bundle

LAYOUTS = {
    "as it is": lambda image: image,
    "negative strides": lambda image: image[::-1, ::-1, ::-1],
    "every second pixel": lambda image: np.repeat(np.repeat(image, 2, 0), 2, 1)[::2, ::2],
    "planes": lambda image: np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0),
    "column after column": np.asfortranarray,
    "read-only": lambda image: np.frombuffer(image.tobytes(), image.dtype).reshape(image.shape),
    "one pixel everywhere": lambda image: np.broadcast_to(image[:1, :1], image.shape),
}


@pytest.fixture(scope="module")
def restorer(demo_bundle: Path):
    with maxim_deploy.load(demo_bundle) as restorer:
        yield restorer


@pytest.fixture(scope="module")
def reference():
    """The literal network in float32, in the published padding: `[H, W, 3]` in [0, 1]."""
    network = module_from_checkpoint(open_model("demo-denoise"))

    def run(image: np.ndarray) -> np.ndarray:
        padding = Padding(*image.shape[:2])
        padded = torch.from_numpy(padding.apply(np.ascontiguousarray(image)))
        with torch.inference_mode():
            restored = network(padded.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        return padding.undo(restored.numpy())

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them would spin on the cores of ONNX Runtime's
    yield run
    torch.set_num_threads(threads)


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    layout=st.sampled_from(sorted(LAYOUTS)),
    rounding=st.sampled_from(["nearest", "truncate"]),
)
def test_against_the_reference(
    restorer, reference, height: int, width: int, dtype, layout: str, rounding
) -> None:
    levels = 1 if dtype == np.float32 else np.iinfo(dtype).max
    noise = np.random.default_rng(height * 200 + width).random((height, width, 3), np.float32)
    image = LAYOUTS[layout]((noise * levels).astype(dtype))
    before = image.copy()
    restored = restorer(image, rounding=rounding)
    assert restored.dtype == dtype and restored.shape == image.shape and restored.flags.writeable
    assert np.array_equal(image, before)
    expected = from_unit(reference(to_unit(image)), image.dtype, rounding)
    error = np.abs(restored.astype(np.float64) - expected).max()
    assert error <= (1e-5 if dtype == np.float32 else 1 + 1e-5 * levels)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((5, 5), np.uint8), r"shape \(height, width, 3\)"),
        (np.zeros((5, 5, 4), np.uint8), r"not \(5, 5, 4\)"),
        (np.zeros((3, 5, 5), np.uint8), r"not \(3, 5, 5\)"),
        (np.zeros((2, 5, 5, 3), np.uint8), r"not \(2, 5, 5, 3\)"),
        (np.zeros((2, 4, 5, 5), np.uint8), r"not \(2, 4, 5, 5\)"),
        (np.zeros((0, 5, 3), np.uint8), r"not \(0, 5, 3\)"),
        (np.zeros((0, 3, 5, 5), np.uint8), r"not \(0, 3, 5, 5\)"),
        (np.zeros((2, 3, 0, 5), np.uint8), r"not \(0, 5, 3\)"),
        (np.zeros((5, 5, 3), np.float64), "not float64"),
        (np.zeros((5, 5, 3), np.float16), "not float16"),
        (np.zeros((5, 5, 3), np.int16), "not int16"),
        (np.zeros((5, 5, 3), bool), "not bool"),
        (np.zeros((5, 5, 3), ">u2"), "not >u2"),
        (np.full((5, 5, 3), np.nan, np.float32), "NaN or infinite"),
        (np.full((5, 5, 3), np.inf, np.float32), "NaN or infinite"),
        ([[0, 0, 0]], "must be a NumPy array, not list"),
        (None, "must be a NumPy array, not NoneType"),
    ],
    ids=str,
)
def test_what_is_no_image(restorer, image, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        restorer(image)
    with pytest.raises(UsageError, match=words):
        restorer.submit(image).result(10)
    assert restorer(np.zeros((5, 5, 3), np.uint8)).shape == (5, 5, 3)  # it still works


def test_one_nan_in_a_batch_of_planes(restorer) -> None:
    images = np.zeros((3, 3, 9, 9), np.float32)
    images[1, 2, 8, 8] = np.nan
    with pytest.raises(UsageError, match=r"images\[1\] \| .*NaN"):
        restorer(images)


def test_huge_sizes_are_refused_before_anything_is_allocated(restorer) -> None:
    huge = np.broadcast_to(np.zeros(3, np.uint8), (400_000, 300_000, 3))
    with pytest.raises(UsageError, match="image of 400000x300000 .* allow more memory"):
        restorer(huge)
    with pytest.raises(UsageError, match="image of 400000x300000 "):
        restorer.plan(400_000, 300_000)


@pytest.mark.parametrize(
    ("is_now", "words"),
    [
        (
            "fp32.image.onnx",
            r"not have the 'tensor' form: .* 'image', tensor\(float\), with 3 channels, it has "
            r"'image' tensor\(uint8\)",
        ),
        ("other names", r"not have the 'tensor' form: .* it has 'x' tensor\(float\)"),
        ("one number", r"not have the 'tensor' form: .* 'restored' tensor\(float\) \[\]"),
    ],
)
def test_another_graph_than_the_manifest_says(
    demo_bundle: Path, tmp_path: Path, is_now: str, words: str
) -> None:
    """With the right hash: somebody has written a bundle of their own, and made a mistake."""
    folder = shutil.copytree(demo_bundle, tmp_path / "bundle")
    graph = folder / "fp32.tensor.onnx"
    if is_now == "other names":
        content = graph.read_bytes()
        graph.write_bytes(_renamed(content))
    elif is_now == "one number":
        graph.write_bytes(_summed())
    else:
        shutil.copy(folder / is_now, graph)
    opened = Bundle.open(folder)
    record = {graph.name: {"sha256": sha256_of(graph), "bytes": graph.stat().st_size}}
    Bundle(folder, replace(opened.manifest, files=opened.manifest.files | record)).write()
    with pytest.raises(BackendError, match=rf"fp32\.tensor\.onnx does {words}"):
        maxim_deploy.load(folder, backend="onnxruntime")


def _renamed(content: bytes) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    for node in model.graph.node:
        node.input[:] = ["x" if name == "image" else name for name in node.input]
    model.graph.input[0].name = "x"
    return model.SerializeToString()


def _summed() -> bytes:
    import onnx

    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        sum (float[N, 3, H, W] image) => (float restored) {
            restored = ReduceSum <keepdims = 0> (image)
        }
    """
    return onnx.parser.parse_model(text).SerializeToString()


@pytest.mark.parametrize("more", [{}, {"run_bytes_per_pixel": 425.0, "run_bytes_fixed": 5_000_000}])
def test_an_old_bundle_has_no_measured_memory(
    more: dict[str, float], demo_bundle: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(demo_bundle, tmp_path / "bundle")
    (folder / "export.json").unlink()
    document = json.loads((folder / "manifest.json").read_text()) | {"format": 1}
    for graph in document["graphs"]:
        graph.update(more)
    (folder / "manifest.json").write_text(json.dumps(document))
    with maxim_deploy.load(folder) as restorer:
        assert restorer.plan(512, 512).bytes == pytest.approx(512 * 512 * 470, rel=0.2)


@pytest.mark.parametrize("record", [None, "{", '{"format": 1, "bundle": "another"}'])
def test_a_bundle_runs_without_its_export_record(
    record: str | None, demo_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(demo_bundle, tmp_path / "bundle")
    with maxim_deploy.load(folder) as restorer:
        known, settings = restorer.plan(512, 512).bytes, restorer.info.settings
    (folder / "export.json").unlink()
    if record:
        (folder / "export.json").write_text(record)
    assert not caplog.records
    with maxim_deploy.load(folder) as restorer:
        assert restorer.plan(512, 512).bytes == pytest.approx(known, rel=0.2)
        assert restorer.info.settings == settings
    warnings = [one.getMessage() for one in caplog.records]
    assert len(warnings) == bool(record)
    assert all("delete it (the bundle runs without it)" in text for text in warnings)
