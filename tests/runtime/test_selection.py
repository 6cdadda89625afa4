"""Which backend runs a bundle, and which engine an image."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from runtime.fakes import Doubling
from spec.samples import entry

import maxim_deploy
from maxim_deploy import BackendError, BundleError, UsageError
from maxim_deploy.machine.gpu import Gpu
from maxim_deploy.runtime import request, tensorrt_backend
from maxim_deploy.runtime.engine_set import EngineSet
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.profiles import Shape

RTX = "tensorrt-rtx"


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    monkeypatch.setattr(request, "find_gpu", lambda _: None)


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(demo_bundle, tmp_path / "bundle")


def with_engines(folder: Path, *profiles: str, **values: object) -> Path:
    """List engines that are not there: nothing of theirs is read before they are opened."""
    opened = Bundle.open(folder)
    files = opened.manifest.files
    made_of = {
        "graph": files["fp16.image.onnx"]["sha256"],
        "weights": files["fp16.weights"]["sha256"],
    }
    known = {"library": RTX, "precision": "fp16", "io": "image", "made_of": made_of}
    engines = [
        entry(f"engines/{k}.engine", spec, **{**known, **values}) for k, spec in enumerate(profiles)
    ]
    old = opened.manifest.engines
    Bundle(folder, replace(opened.manifest, engines=[*old, *engines])).write()
    return folder


def test_auto_on_a_machine_without_a_gpu(no_gpu, bundle: Path) -> None:
    with maxim_deploy.load(with_engines(bundle, "64x64")) as restorer:
        info = restorer.info
    assert (info.backend, info.precision, info.device, info.sizes) == (
        "onnxruntime", "fp32", "cpu", "any",
    )  # fmt: skip
    assert list(info.not_taken) == ["tensorrt", RTX, "onnxruntime-cuda", "openvino"]
    assert (
        "has no engine of tensorrt (it has: none); build one: maxim-export -o"
        in (info.not_taken["tensorrt"])
    )
    assert info.not_taken[RTX].startswith("there is no NVIDIA GPU 0 or no driver here")


@pytest.mark.parametrize("name", [RTX, "onnxruntime-cuda"])
def test_by_name_there_is_no_fall_back(no_gpu, bundle: Path, name: str) -> None:
    with_engines(bundle, "64x64")
    with pytest.raises(BackendError, match="there is no NVIDIA GPU 2 or no driver here"):
        maxim_deploy.load(bundle, backend=name, device=2)
    with pytest.raises(
        BundleError, match=r"has no fp32 engine of tensorrt-rtx \(it has: fp16 image"
    ):
        maxim_deploy.load(bundle, backend=RTX, precision="fp32")


def test_engines_of_another_graph_are_not_taken(no_gpu, bundle: Path) -> None:
    with_engines(bundle, "64x64", made_of={"graph": "0" * 64, "weights": "0" * 64})
    with pytest.raises(BundleError, match=r"\(it has: none, and 1 of another graph\)"):
        maxim_deploy.load(bundle, backend=RTX)


def test_an_engine_that_cannot_run_here(bundle: Path, monkeypatch) -> None:
    """For another GPU or version: the next backend with auto, an error when asked for by name."""
    with_engines(bundle, "64x64")
    monkeypatch.setattr(request, "find_gpu", lambda _: Gpu("NVIDIA L4", "8.9", 1, "13.0"))
    monkeypatch.setattr(tensorrt_backend, "open_cuda", lambda *_: object())

    def refuse(*_: object, **__: object) -> None:
        raise BackendError("built for compute capability 8.6; NVIDIA L4 has 8.9")

    monkeypatch.setattr(tensorrt_backend, "TensorRtBackend", refuse)
    with pytest.raises(BackendError, match=r"built for compute capability 8\.6"):
        maxim_deploy.load(bundle, backend=RTX)
    with maxim_deploy.load(bundle) as restorer:
        assert restorer.info.backend == "onnxruntime"
        assert "compute capability 8.6" in restorer.info.not_taken[RTX]


def test_engines_run_what_they_take(bundle: Path, monkeypatch) -> None:
    """The best precision and form that has engines, and tiles of a size that they take."""
    with_engines(bundle, "64x64:256x256:512x512", "128x128")
    with_engines(bundle, "64x64", precision="fp32", made_of={})
    opened: list[str] = []

    class Engine(Doubling):
        def __init__(self, bundle, entry, cuda, *, stream, allow_host_code) -> None:
            super().__init__(io=entry.io)
            opened.append(entry.file)
            self.precision, self.stream = entry.precision, stream
            assert not allow_host_code

    monkeypatch.setattr(Bundle, "mismatches", lambda *_: [])
    monkeypatch.setattr(request, "find_gpu", lambda _: Gpu("NVIDIA L4", "8.9", 1, "13.0"))
    monkeypatch.setattr(tensorrt_backend, "open_cuda", lambda *_: object())
    monkeypatch.setattr(tensorrt_backend, "TensorRtBackend", Engine)
    image = np.full((600, 300, 3), 100, np.uint8)
    with maxim_deploy.load(bundle, backend=RTX, stream=5) as restorer:
        assert restorer.info.precision == "fp16" and restorer.info.io == "image"
        assert restorer.info.sizes.startswith("64x64:256x256:512x512 (64x64 to 512x512, tuned for")
        assert opened == ["engines/0.engine"]
        assert restorer.plan(128, 128).tile is None and restorer.plan(600, 300).tile == (512, 320)
        assert (restorer(image) == 200).all()
        assert (restorer(image[:128, :128]) == 200).all()
        assert opened == ["engines/0.engine", "engines/1.engine"]
        with pytest.raises(UsageError, match="takes uint8 and rounds to nearest"):
            restorer(image.astype(np.uint16))


def test_an_engine_set_closes_what_it_opened() -> None:
    backends: list[Doubling] = []

    def opener(one) -> Doubling:
        backends.append(Doubling())
        return backends[-1]

    engines = EngineSet([entry("a", "64x64"), entry("b", "128x128")], opener)
    assert len(backends) == 1 and engines.takes(Shape(1, 128, 128))
    engines.run(np.zeros((1, 3, 128, 128), np.float32))
    with pytest.raises(BackendError, match="doubling accepts 100x100; available: 64x64"):
        engines.run(np.zeros((1, 3, 100, 100), np.float32))
    released: list[Doubling] = []
    for backend in backends:
        backend.release = partial(released.append, backend)  # type: ignore[method-assign]
    engines.release()
    assert released == backends
    engines.close()
    assert [backend.closed for backend in backends] == [True, True]


def test_unknown_backends(demo_bundle: Path) -> None:
    with pytest.raises(
        UsageError, match=r"did you mean 'tensorrt-rtx'\?\); known: auto, tensorrt,"
    ):
        maxim_deploy.load(demo_bundle, backend="tensorrt_rtx")
