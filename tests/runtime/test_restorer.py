"""The runtime on real bundles: the published pipeline, types, faults."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import reference

import maxim_deploy
from maxim_deploy import BackendError, BundleError, UsageError


@pytest.fixture(scope="module")
def restorer(demo_bundle: Path):
    with maxim_deploy.load(demo_bundle) as restorer:
        yield restorer


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(demo_bundle, tmp_path / "bundle")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (37, 90, 3), np.uint8)


def test_demo_model_on_a_real_photograph(restorer) -> None:
    data = reference.load("demo_expected")
    restored = restorer(data["noisy"][0])
    assert np.abs(restored - data["restored"][0]).max() <= 2e-6


def test_info(restorer) -> None:
    info = restorer.info
    assert (info.model.name, info.model.task, info.model.licence) == (
        "demo-denoise",
        "denoising",
        "Apache-2.0",
    )
    assert (info.precision, info.backend, info.device) == ("fp32", "onnxruntime", "cpu")
    assert info.variant is None and info.library.startswith("onnxruntime ")


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (3, 5), (64, 64), (65, 130), (3, 600)])
def test_any_size(restorer, size) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    restored = restorer(image)
    assert restored.shape == image.shape and restored.dtype == np.uint8
    assert restored.flags.c_contiguous


def test_types_agree(restorer, picture) -> None:
    exact = restorer(picture.astype(np.float32) / np.float32(255))
    assert exact.dtype == np.float32
    eight, sixteen = restorer(picture), restorer(picture.astype(np.uint16) * 257)
    clipped = np.clip(exact, 0, 1)
    assert np.abs(eight / 255 - clipped).max() <= 0.5 / 255 + 1e-6
    assert np.abs(sixteen / 65535 - clipped).max() <= 0.5 / 65535 + 1e-6
    truncated = restorer(picture, rounding="truncate")
    assert np.array_equal(truncated, (clipped * np.float32(255)).astype(np.uint8))


def test_strides_do_not_matter_and_the_input_is_not_modified(restorer, picture) -> None:
    flipped = picture[::-1, ::-1]
    flipped.setflags(write=False)
    before = flipped.copy()
    assert np.array_equal(restorer(flipped), restorer(np.ascontiguousarray(flipped)))
    assert np.array_equal(flipped, before)


def test_threads_may_share_a_restorer(restorer, picture) -> None:
    pictures = [np.roll(picture, k, axis=0) for k in range(6)]
    alone = [restorer(image) for image in pictures]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone, pool.map(restorer, pictures), strict=True):
            assert np.array_equal(expected, found)


def test_closed(demo_bundle) -> None:
    restorer = maxim_deploy.load(demo_bundle)
    restorer.close()
    restorer.close()
    with pytest.raises(BackendError, match="closed"):
        restorer(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "onnxruntim"}, "did you mean 'onnxruntime'"),
        ({"precision": "fp61"}, "unknown precision 'fp61'.*known: auto, fp32, fp16, bf16"),
        (
            {"precision": "bf16", "backend": "onnxruntime"},
            "CPU does not run bf16; choose fp32",
        ),
        ({"threads": 0}, "at least 1"),
        ({"tile": 500}, "tile must be a multiple of 64, not 500"),
        ({"tile": "none"}, "tile must be 'auto', 'off' or a multiple of 64, not 'none'"),
        ({"tile": 128, "overlap": 65}, "tiles of 128x128 can overlap by 0 to 64 pixels, not 65"),
        ({"overlap": -1}, "not -1"),
        ({"max_memory": "4 gigs"}, "max_memory must be an amount such as 4GiB"),
        ({"stream": 7, "backend": "onnxruntime"}, "stream=7 is not supported by a CPU backend"),
        ({"device": 1, "backend": "onnxruntime"}, "device=1 is not supported by a CPU backend"),
    ],
)
def test_wrong_arguments(demo_bundle, arguments, message) -> None:
    with pytest.raises(UsageError, match=message):
        maxim_deploy.load(demo_bundle, **arguments)


def test_every_keyword_is_accepted(demo_bundle) -> None:
    maxim_deploy.load(
        demo_bundle, backend="onnxruntime", precision="fp32", device=0, threads=1,
        tile="off", overlap=None, max_memory=None, stream=None,
    ).close()  # fmt: skip


def test_wrong_images(restorer) -> None:
    with pytest.raises(UsageError, match="RGB"):
        restorer(np.zeros((4, 4, 1), np.uint8))
    with pytest.raises(UsageError, match="rounding"):
        restorer(np.zeros((4, 4, 3), np.uint8), rounding="up")


def test_no_bundle(tmp_path) -> None:
    with pytest.raises(BundleError, match=r"no such directory.*maxim-export"):
        maxim_deploy.load(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"there is no manifest\.json"):
        maxim_deploy.load(tmp_path)


@pytest.mark.parametrize("name", ["fp32.weights", "fp32.tensor.onnx"])
def test_changed_and_missing_files(bundle, name) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}.*has changed since the export"):
        maxim_deploy.load(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name}.*is missing"):
        maxim_deploy.load(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "format 3.*reads formats 1 and 2"),
        ({"graphs": []}, "has no fp32 graph"),
        ({"graphs": [{"file": "x"}]}, "damaged"),
        ({"architecture": {}}, "damaged"),
        ({"files": {}}, "files lists no 'fp32"),
    ],
)
def test_damaged_manifest(bundle, change, message) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(BundleError, match=message):
        maxim_deploy.load(bundle)
    (bundle / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        maxim_deploy.load(bundle)


def test_a_bundle_whose_replacement_was_cut_short_is_found(bundle) -> None:
    bundle.rename(bundle.with_name(".bundle.previous"))
    maxim_deploy.load(bundle).close()


def test_the_backend_failure_is_ours_to_explain(demo_bundle) -> None:
    restorer = maxim_deploy.load(demo_bundle)
    with pytest.raises(BackendError, match="failed on an input of 1x3x65x64"):
        restorer._work.require_open().run(np.zeros((1, 3, 65, 64), np.float32))
