"""What is loaded are the bytes that were hashed, whatever lies at the path a moment later."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines.bundles import entry_of
from swapping import (
    ENGINE,
    EXPECTED,
    GRAPH,
    IMAGE,
    WAYS,
    WEIGHTS,
    loads_beside_a_swapper,
    swap,
    write_bundle,
)

import maxim_deploy
from maxim_deploy.engines.validity import Validity
from maxim_deploy.errors import BackendError, BundleError
from maxim_deploy.runtime import onnxruntime_backend, tensorrt_engines
from maxim_deploy.runtime.cuda import open_cuda
from maxim_deploy.runtime.request import Request
from maxim_deploy.runtime.tensorrt_backend import TensorRtBackend
from maxim_deploy.spec.bundle import Bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def swap_all(folder: Path, way: str) -> None:
    for name in (GRAPH, WEIGHTS, ENGINE):
        swap(folder / name, folder.with_name("other") / name, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_swap_between_hash_and_library(folder: Path, monkeypatch, way: str) -> None:
    open_session = onnxruntime_backend.cpu_session

    def swapped_before(*arguments: object, **options: object) -> object:
        swap_all(folder, way)
        return open_session(*arguments, **options)

    monkeypatch.setattr(onnxruntime_backend, "cpu_session", swapped_before)
    if way == "write":
        with maxim_deploy.load(folder, backend="onnxruntime", threads=1) as restorer:
            assert np.array_equal(restorer(IMAGE), EXPECTED)
    # New names in the folder show, and it is read again.
    with pytest.raises(BundleError, match="has changed since the export"):
        maxim_deploy.load(folder, backend="onnxruntime")


def test_a_swap_after_loading(folder: Path) -> None:
    """The weights are mapped as long as the session lives."""
    with maxim_deploy.load(folder, backend="onnxruntime", threads=1) as restorer:
        (folder / WEIGHTS).write_bytes(b"")
        assert np.array_equal(restorer(IMAGE), EXPECTED)


def test_a_few_loads_beside_a_swapper(tmp_path: Path) -> None:
    counts = loads_beside_a_swapper(tmp_path, 0, 8, "write")
    assert counts["another"] == 0 and counts.total() == 8


@pytest.mark.extended
@pytest.mark.parametrize("way", WAYS)
def test_many_loads_beside_a_swapper(tmp_path: Path, way: str, record_property) -> None:
    counts = loads_beside_a_swapper(tmp_path, 1, 1000, way)
    record_property(way, dict(counts))
    assert counts["another"] == 0 and counts["listed"] > 0


def test_copies_are_private_and_go(folder: Path, tmp_path: Path, monkeypatch) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    bundle = Bundle.open(folder)
    with bundle.private_graph(bundle.manifest.graphs[0]) as path:
        assert {file.name for file in path.parent.iterdir()} == {GRAPH, WEIGHTS}
        assert path.parent.stat().st_mode & 0o077 == 0 and path.parent.parent == temporary
    request = Request(bundle)
    assert request.best_graph(("fp32",))[1].with_name(WEIGHTS).is_file()
    del request
    (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(BundleError, match="has changed"):
        maxim_deploy.load(folder, backend="onnxruntime")
    assert list(temporary.iterdir()) == []


def test_a_copy_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(BundleError, match=r"cannot make a folder in .*none'.*set TMPDIR"):
        maxim_deploy.load(folder, backend="onnxruntime")
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=r"cannot copy 'fp32.weights' into .*; set TMPDIR"):
        bundle._recorded(WEIGHTS).copy(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_what_is_no_regular_file(folder: Path, tmp_path: Path, name: str) -> None:
    """A pipe would keep its reader waiting for ever; a link may lead to one."""
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        (folder / name).unlink()
        (folder / name).symlink_to(target)
        with pytest.raises(BundleError, match=f"{name}': .*(not a regular file|folder|directory)"):
            maxim_deploy.load(folder, backend="onnxruntime")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("restored = Concat <axis = 2> (image, image)", r"float32 \[1, 3, 128, 64\]"),
        ("restored = Transpose <perm = [0, 1, 3, 2]> (image)", r"float32 \[1, 3, 128, 64\]"),
    ],
)
def test_a_result_of_another_shape_is_refused(tmp_path: Path, body: str, found: str) -> None:
    import onnx
    from bundles import write_manifest

    from maxim_deploy.spec.manifest import GraphEntry

    form = "(float[n,3,h,w] image) => (float[n,3,p,q] restored)"
    text = f'<ir_version: 10, opset_import: ["": 20]> network {form} {{ {body} }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / GRAPH)
    write_manifest(tmp_path, GraphEntry(GRAPH, "fp32", "tensor", None, 20, 1), settings={})
    image = np.zeros((64, 128, 3) if "Trans" in body else (64, 64, 3), np.float32)
    with (
        maxim_deploy.load(tmp_path, backend="onnxruntime", threads=1) as restorer,
        pytest.raises(BackendError, match=rf"returned {found} for an input .*same type and shape"),
    ):
        restorer(image)


def test_an_engine_is_read_once(trt, bundle, monkeypatch) -> None:
    entry = entry_of(bundle)

    def swapped_after(*_: object) -> Validity:
        (bundle.path / entry.file).write_bytes(b"evil")
        return Validity()

    monkeypatch.setattr(tensorrt_engines, "validity_of", swapped_after)
    TensorRtBackend(bundle, entry, open_cuda()).close()  # the fake library takes `plan` only
    assert len(trt.engines) == 1


def test_an_engine_that_gives_no_image(trt, bundle) -> None:
    """Its result would be written beyond the memory of one."""
    trt.shape = (1, 128, 64, 3)
    backend = TensorRtBackend(bundle, entry_of(bundle), open_cuda())
    with pytest.raises(BackendError, match=r"returns \(1, 128, 64, 3\) for an input of \(1, 64"):
        backend.run(np.zeros((1, 64, 64, 3), np.uint8))
    backend.close()
    trt.types["restored"] = "FLOAT"
    with pytest.raises(BackendError, match=r"'restored': 'float32'.*the 'image' form has uint8"):
        TensorRtBackend(bundle, entry_of(bundle), open_cuda())


def test_code_of_an_engine_needs_the_callers_word(trt, bundle) -> None:
    made_of = {**entry_of(bundle).made_of, "version_compatible": True}
    entry = replace(entry_of(bundle), made_of=made_of)
    with pytest.raises(BackendError, match=r"contains code .*, or pass --allow-host"):
        TensorRtBackend(bundle, entry, open_cuda())
    assert not trt.engines
    backend = TensorRtBackend(bundle, entry, open_cuda(), allow_host_code=True)
    assert backend._shared._runtime.engine_host_code_allowed
    # Somebody else's word for the same engine is not this caller's.
    with pytest.raises(BackendError, match="contains code"):
        TensorRtBackend(bundle, entry, open_cuda())
    backend.close()
    plain = TensorRtBackend(bundle, entry_of(bundle), open_cuda(), allow_host_code=True)
    assert not hasattr(plain._shared._runtime, "engine_host_code_allowed")
    plain.close()


def test_the_form_is_what_the_manifest_says(tmp_path: Path) -> None:
    """Whatever the file is called."""
    import onnx
    from bundles import IDENTITIES, write_manifest

    from maxim_deploy.spec.manifest import GraphEntry

    text = '<ir_version: 10, opset_import: ["": 20]> network ' + IDENTITIES["fp32", "tensor"]
    onnx.save(onnx.parser.parse_model(text.replace("__", "_")), tmp_path / "g.onnx")
    write_manifest(tmp_path, GraphEntry("g.onnx", "fp32", "image", None, 20, 1), settings={})
    with pytest.raises(BackendError, match=r"g\.onnx does not have the 'image' form"):
        maxim_deploy.load(tmp_path, backend="onnxruntime")
