"""Backends tried with a tiny graph: the true ones that are here, and stand-ins for the others."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest
from gpus import L4
from runtime.fake_onnxruntime import Options, Session

from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.runtime import onnxruntime_cuda
from maxim_deploy.runtime.probes import verdict_on


def test_onnxruntime_works_here() -> None:
    pytest.importorskip("onnxruntime")
    assert vars(verdict_on("onnxruntime")) == {
        "name": "onnxruntime",
        "works": True,
        "reason": None,
        "install": None,
        "builds_engines": None,
        "log": "",
    }


def test_tensorrt_for_rtx_builds_an_engine_without_a_gpu() -> None:
    pytest.importorskip("tensorrt_rtx")
    verdict = verdict_on("tensorrt-rtx")
    assert verdict.builds_engines
    if find_gpu() is None:
        assert not verdict.works and str(verdict.reason).startswith("there is no NVIDIA GPU 0")


@pytest.mark.gpu
def test_tensorrt_for_rtx_runs_the_tiny_engine() -> None:
    if find_gpu() is None:
        pytest.skip("needs an NVIDIA GPU")
    assert verdict_on("tensorrt-rtx").works


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("onnxruntime", "onnxruntime", "cpu"),
        ("onnxruntime-cuda", "onnxruntime", "gpu"),
        ("tensorrt", "tensorrt", "tensorrt"),
        ("tensorrt-rtx", "tensorrt_rtx", "rtx"),
        ("tensorrt-rtx", "cuda.bindings.runtime", "rtx"),
    ],
)
def test_what_is_not_installed_is_a_pip_line(name: str, module: str, extra: str, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    verdict = verdict_on(name)
    assert verdict.reason == f"{module} is not installed"
    assert verdict.install == f"pip install 'maxim-deploy[{extra}]'"
    assert not verdict.works and not verdict.builds_engines


def test_the_verdict_alone_is_on_the_last_line_of_stdout() -> None:
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "-m", "maxim_deploy.runtime.probes", "onnxruntime"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["works"] is True


# ------------------------------------------------------------------ ONNX Runtime with CUDA


@pytest.fixture
def session(monkeypatch) -> type[Session]:
    """An ONNX Runtime with CUDA; the class of its sessions, to be spoilt."""
    kind = type("Spoilt", (Session,), {})
    runtime = SimpleNamespace(
        InferenceSession=kind,
        SessionOptions=Options,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        preload_dlls=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return kind


def test_the_surface_of_onnxruntime_that_the_stand_in_claims() -> None:
    ort = pytest.importorskip("onnxruntime")
    assert callable(ort.preload_dlls)
    ort.SessionOptions().add_session_config_entry("session.disable_cpu_ep_fallback", "1")


def test_onnxruntime_with_cuda(session) -> None:
    assert verdict_on("onnxruntime-cuda").works


def test_a_silent_fall_back_to_the_cpu_does_not_pass_for_cuda(session, monkeypatch) -> None:
    session.providers = ("CPUExecutionProvider",)
    monkeypatch.setattr(onnxruntime_cuda, "find_gpu", lambda: None)
    verdict = verdict_on("onnxruntime-cuda")
    assert not verdict.works and str(verdict.reason).startswith("there is no NVIDIA GPU 0")
    monkeypatch.setattr(onnxruntime_cuda, "find_gpu", lambda: L4)
    verdict = verdict_on("onnxruntime-cuda")
    assert verdict.reason == "CUDA or cuDNN cannot be loaded"
    assert verdict.install == "pip install 'onnxruntime-gpu[cuda,cudnn]'"


@pytest.mark.parametrize("error", [1.0, np.nan])
def test_a_wrong_result_does_not_work(session, error: float) -> None:
    session.error = error
    verdict = verdict_on("onnxruntime-cuda")
    assert (verdict.works, verdict.reason) == (False, "it computes a wrong result for a tiny graph")


@pytest.mark.parametrize(
    ("installed", "line"),
    [
        ({"onnxruntime": "1.32.0"}, "pip uninstall -y onnxruntime && pip install"),
        ({}, "pip install"),
    ],
)
def test_a_build_without_cuda_is_replaced(session, installed, line: str, monkeypatch) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(sys.modules["onnxruntime"], "get_available_providers", list)
    verdict = verdict_on("onnxruntime-cuda")
    assert verdict.reason == "this onnxruntime was built without CUDA"
    assert verdict.install == f"{line} 'maxim-deploy[gpu]'"


def test_an_exception_without_words_is_named(session, monkeypatch) -> None:
    def run(*_: object) -> None:
        raise NotADirectoryError

    monkeypatch.setattr(session, "run", run)
    assert verdict_on("onnxruntime-cuda").reason == "NotADirectoryError"
