"""Full TensorRT, which is not installed here: at the surface of its bindings.

TensorRT for RTX has the same Python API. Under the other name and with a GPU that is not there, it
stands in for everything but the timing cache, for which a fake does.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from engines.bundles import settings
from engines.fakes import FakeCache, FakeParserRefitter, FakeRefitter, fake_driver
from gpus import L4

from maxim_deploy.engines import engine_file, inspection, store, validity
from maxim_deploy.engines.engine_file import BuildOptions
from maxim_deploy.engines.inspection import inspect_bundle, inspection_text
from maxim_deploy.engines.refit import refit_from_graph
from maxim_deploy.engines.store import add_engine
from maxim_deploy.engines.timing_cache import TimingCacheFile
from maxim_deploy.errors import EngineError
from maxim_deploy.machine import gpu
from maxim_deploy.machine.gpu import Gpu, find_gpu
from maxim_deploy.spec.bundle import Bundle


@pytest.fixture
def tensorrt(trt, monkeypatch) -> ModuleType:
    module = ModuleType("tensorrt")
    module.__dict__.update({k: v for k, v in vars(trt).items() if not k.startswith("__")})
    module.__version__ = "10.14.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    for room in (store, inspection):
        monkeypatch.setattr(room, "find_gpu", lambda: L4)
    return module


def test_an_engine_of_tensorrt(tensorrt, bundle: Path) -> None:
    asked = settings("64x64", library="tensorrt", hardware_compatibility="ampere-plus")
    entry, is_new = add_engine(bundle, asked)
    assert is_new and entry.library == "tensorrt" and entry.version == "10.14.1"
    assert entry.targets == ("8.0+",) and entry.made_of["gpu"] == "NVIDIA L4, 8.9"
    built_on = entry.built.built_on
    assert built_on["gpu"] == "NVIDIA L4" and built_on["cuda"] == "13.0"
    assert "hardwareCompatibility" in log_of(bundle, entry.file).replace("HardwareC", "hardwareC")
    plain, _ = add_engine(bundle, settings("64x64", library="tensorrt"))
    assert plain.targets == ("8.9",)


def log_of(bundle: Path, file: str) -> str:
    return (bundle / file).with_suffix(".log").read_text()


def test_tensorrt_needs_a_gpu_to_build(tensorrt, bundle: Path, monkeypatch) -> None:
    monkeypatch.setattr(store, "find_gpu", lambda: None)
    with pytest.raises(EngineError, match="builds for the GPU of this machine, but there is"):
        add_engine(bundle, settings("64x64", library="tensorrt"))


def test_an_engine_says_whether_it_runs_here(tensorrt, trt, bundle: Path, monkeypatch) -> None:
    add_engine(bundle, settings("64x64", library="tensorrt"))

    def reasons() -> list[str]:
        return inspect_bundle(bundle)["engines"][0]["reasons"]

    assert reasons() == []
    assert "runs here" in inspection_text(inspect_bundle(bundle))
    monkeypatch.setattr(inspection, "find_gpu", lambda: Gpu("NVIDIA A100", "8.0", 1, "13.0"))
    assert reasons() == ["built for compute capability 8.9; NVIDIA A100 has 8.0"]
    monkeypatch.setattr(inspection, "find_gpu", lambda: None)
    assert "there is no NVIDIA GPU 0" in reasons()[0]
    monkeypatch.setattr(inspection, "find_gpu", lambda: L4)
    tensorrt.__version__ = "11.0.0"
    assert reasons()[0].startswith("built by tensorrt 10.14.1, but 11.0.0 is installed:")
    tensorrt.__version__ = "10.14.1"
    monkeypatch.setattr(validity.platform, "system", lambda: "Windows")
    assert reasons()[0].startswith("built on linux-")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "pip install 'maxim-deploy[tensorrt]'" in reasons()[0]


def test_an_engine_of_another_graph(tensorrt, bundle: Path) -> None:
    _entry, _ = add_engine(bundle, settings("64x64", library="tensorrt"))
    opened = Bundle.open(bundle)
    opened.manifest.files["fp16.weights"]["sha256"] = "0" * 64
    opened.write()
    (engine,) = inspect_bundle(bundle)["engines"]
    assert engine["reasons"] == [
        "the bundle's weights changed since the build: build the engine again"
    ]


def test_the_librarys_own_answer_counts(trt, bundle: Path, monkeypatch) -> None:
    add_engine(bundle, settings("64x64"))
    monkeypatch.setattr(inspection, "find_gpu", lambda: L4)
    (engine,) = inspect_bundle(bundle)["engines"]
    if find_gpu() is None:  # the library looks for a driver itself
        assert engine["reasons"][0].startswith("TensorRT for RTX says INVALID")
    monkeypatch.setattr(inspection, "find_gpu", lambda: Gpu("NVIDIA H200", "9.0", 1, "13.0"))
    (engine,) = inspect_bundle(bundle)["engines"]
    assert engine["reasons"] == ["built for compute capability 8.0+; NVIDIA H200 has 9.0"]


@pytest.mark.parametrize(
    "gpu, answer, runs, said",
    [
        (L4, ("VALID", 0), True, ""),
        (L4, ("SUBOPTIMAL", 0), True, "SUBOPTIMAL: it runs, perhaps slower"),
        (L4, ("SUBOPTIMAL", 4), True, "SUBOPTIMAL: OLD_CUDA_DRIVER: it runs"),
        (L4, ("INVALID", 6), False, "INVALID: UNSUPPORTED_CC, OLD_CUDA_DRIVER"),
        (Gpu("of tomorrow", "99.0", 1, "13.0"), ("SUBOPTIMAL", 0), True, "SUBOPTIMAL: it runs"),
        (Gpu("of tomorrow", "99.0", 1, "13.0"), ("INVALID", 2), False, "UNSUPPORTED_CC"),
    ],
)
def test_only_an_invalid_engine_is_refused(
    trt, bundle: Path, monkeypatch, gpu: Gpu, answer: tuple[str, int], runs: bool, said: str
) -> None:
    class Runtime:
        def __init__(self, logger: object) -> None:
            assert type(logger) is trt.Logger  # one in Python could hang

        def get_engine_validity(self, buffer: bytes) -> tuple[object, int]:
            return getattr(trt.EngineValidity, answer[0]), answer[1]

    entry, _ = add_engine(bundle, settings("64x64"))
    monkeypatch.setattr(trt, "Runtime", Runtime)
    monkeypatch.setattr(inspection, "find_gpu", lambda: gpu)
    (engine,) = inspect_bundle(bundle)["engines"]
    assert engine["runs_here"] == runs and said in " ".join(engine["reasons"] + engine["notes"])
    if runs and said:
        text = inspection_text(inspect_bundle(bundle))
        assert f"note: TensorRT for RTX says {said}" in text and "    runs here" in text
    assert Bundle.open(bundle).manifest.engines[0].notes == entry.notes  # it is of this machine


# ------------------------------------------------------------------ timing cache


CONFIG = SimpleNamespace(create_timing_cache=FakeCache)


def cache_file(path: Path, said: list[str], gpu: str = "NVIDIA L4") -> TimingCacheFile:
    return TimingCacheFile(path, "tensorrt 10.14.1", gpu, said.append)


def test_a_timing_cache_is_kept_and_merged(tmp_path: Path) -> None:
    path, said = tmp_path / "cache", []
    file = cache_file(path, said)
    assert file.load(CONFIG).content == b""
    file.merge(CONFIG, FakeCache(b"one"))
    assert file.load(CONFIG).content == b"one"
    file.merge(CONFIG, FakeCache(b"two"))  # what another builder has written meanwhile stays
    assert file.load(CONFIG).content == b"twoone" and said == []
    header = json.loads(path.read_bytes().split(b"\n")[0])
    assert header["library"] == "tensorrt 10.14.1" and header["bytes"] == 6


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda content: content[:-1] + b"x", "is damaged (its hash differs)"),
        (lambda content: content.replace(b"NVIDIA L4", b"NVIDIA T4"), "is for gpu 'NVIDIA T4'"),
        (lambda content: content.replace(b"10.14.1", b"10.15.0"), "is for library 'tensorrt 10.15"),
        (lambda content: content.replace(b"cache 1", b"cache 2"), "has format"),
        (lambda content: b"\x00\x01raw bytes of the library", "is not one of ours"),
        (lambda content: b"[]\n", "is not one of ours"),
        (lambda content: b"", "is not one of ours"),
    ],
)
def test_a_foreign_timing_cache_is_set_aside(tmp_path: Path, spoil, why: str) -> None:
    path, said = tmp_path / "cache", []
    cache_file(path, said).merge(CONFIG, FakeCache(b"measured"))
    path.write_bytes(spoil(path.read_bytes()))
    assert cache_file(path, said).load(CONFIG).content == b""
    assert len(said) == 1 and why in said[0] and "set aside as 'cache.rejected'" in said[0]
    assert not path.exists() and (tmp_path / "cache.rejected").exists()


def test_a_timing_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "no").write_text("a file, not a folder")
    file = cache_file(tmp_path / "no" / "cache", [])
    with pytest.raises(EngineError, match="cannot write the timing cache"):
        file.merge(CONFIG, FakeCache(b""))
    with pytest.raises(EngineError, match="cannot write the timing cache"):
        file.load(CONFIG)  # before the build, which would be lost


def test_a_build_uses_and_extends_the_cache(tensorrt, bundle: Path, monkeypatch) -> None:
    calls = []
    fake = SimpleNamespace(
        load=lambda config: calls.append("load"), merge=lambda config, cache: calls.append("merge")
    )
    monkeypatch.setattr(engine_file, "TimingCacheFile", lambda *a: calls.append(a[1:3]) or fake)
    options = BuildOptions(timing_cache=bundle / "cache")
    add_engine(bundle, settings("64x64", library="tensorrt"), options)
    assert calls == [("tensorrt 10.14.1", "NVIDIA L4"), "load", "merge"]


# ------------------------------------------------------------------ refit


FAKE = SimpleNamespace(Refitter=FakeRefitter, OnnxParserRefitter=FakeParserRefitter)


def test_refit() -> None:
    refit_from_graph(FAKE, "good", Path("g.onnx"), None)
    with pytest.raises(EngineError, match=r"missing weights: stages\.0\.weight"):
        refit_from_graph(FAKE, "incomplete", Path("g.onnx"), None)
    with pytest.raises(EngineError, match=r"weights of g\.onnx for a refit: no such weight"):
        refit_from_graph(FAKE, "unreadable", Path("g.onnx"), None)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("Refitter.refit_cuda_engine", []),
        ("Refitter.get_missing_weights", []),
        ("OnnxParserRefitter.refit_from_file", ["model"]),
        ("IBuilderConfig.create_timing_cache", ["serialized_timing_cache"]),
        ("IBuilderConfig.set_timing_cache", ["cache", "ignore_mismatch"]),
        ("ITimingCache.combine", ["input_cache", "ignore_mismatch"]),
        ("ITimingCache.serialize", []),
        ("Runtime.get_engine_validity", ["buffer"]),
        ("Builder.build_serialized_network", ["network", "config"]),
        ("EngineInspector.get_engine_information", ["format"]),
    ],
)
def test_the_fakes_have_the_signatures_of_the_bindings(trt, name: str, arguments) -> None:
    kind, method = name.split(".")
    signature = re.search(r"\(self: [^,)]+(.*?)\) ->", getattr(getattr(trt, kind), method).__doc__)
    assert signature is not None
    assert re.findall(r", (\w+):", signature[1]) == arguments


# ------------------------------------------------------------------ the GPU at hand


def test_find_gpu(monkeypatch) -> None:
    monkeypatch.setattr(gpu, "require", lambda *_: fake_driver())
    assert find_gpu() == L4
    monkeypatch.setattr(gpu, "require", lambda *_: fake_driver("cuDeviceGet"))
    assert find_gpu() is None
    monkeypatch.setattr(gpu, "require", gpu.require)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    assert find_gpu() is None


@pytest.mark.gpu
def test_on_a_gpu(trt, bundle: Path) -> None:
    """Deserialized, inspected, and stripped and refitted: to be run where a GPU is."""
    gpu = find_gpu()
    if gpu is None:
        pytest.skip("no NVIDIA GPU or driver here")
    from maxim_deploy.machine.tensorrt import collecting_logger

    logger = collecting_logger(trt)
    runtime = trt.Runtime(logger)
    for options in ({}, {"strip_weights": True}):
        entry, _ = add_engine(bundle, settings("64x64", targets=["current"], **options))
        engine = runtime.deserialize_cuda_engine((bundle / entry.file).read_bytes())
        assert engine is not None, logger.messages
        assert inspect_bundle(bundle)["engines"][-1]["runs_here"]
        if options:
            refit_from_graph(trt, engine, bundle / "fp16.image.onnx", logger)
        inspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        assert json.loads(text)["Layers"]
