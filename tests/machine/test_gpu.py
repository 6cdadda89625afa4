"""The GPU as the driver describes it, or none."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maxim_deploy.errors import MissingDependencyError
from maxim_deploy.machine import gpu
from maxim_deploy.machine.gpu import Gpu, find_gpu, no_gpu, why_no_gpu


def driver(error: int = 0) -> SimpleNamespace:
    """An L4 behind a driver for CUDA 13.1, every answer of which begins with an error code."""
    attributes = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=8,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=9,
    )
    return SimpleNamespace(
        CUdevice_attribute=attributes,
        cuInit=lambda _: (error,),
        cuDeviceGet=lambda device: (0 if device == 0 else 101, "handle"),
        cuDeviceGetAttribute=lambda attribute, _: (0, attribute),
        cuDriverGetVersion=lambda: (0, 13010),
        cuDeviceGetName=lambda length, _: (0, b"NVIDIA L4".ljust(length, b"\0")),
        cuDeviceTotalMem=lambda _: (0, 24 * 2**30),
    )


def test_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "require", lambda *_: driver())
    assert find_gpu() == Gpu("NVIDIA L4", "8.9", 24 * 2**30, "13.1")
    assert find_gpu(1) is None
    monkeypatch.setattr(gpu, "require", lambda *_: driver(error=100))
    assert find_gpu() is None


@pytest.mark.parametrize("error", [MissingDependencyError("pip"), RuntimeError("no libcuda")])
def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object) -> Any:
        raise error

    monkeypatch.setattr(gpu, "require", refuse)
    assert find_gpu() is None


@pytest.mark.parametrize("body", ["raise ImportError('x')", "raise OSError('x')", "1 / 0", "pass"])
def test_broken_bindings_are_a_reason(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cuda/bindings").mkdir(parents=True)
    for name in ("cuda/__init__.py", "cuda/bindings/__init__.py"):
        (tmp_path / name).touch()
    for name in ("driver", "runtime", "nvml"):
        (tmp_path / f"cuda/bindings/{name}.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    assert find_gpu() is None
    assert ("importing it fails" if body != "pass" else "cannot be used") in why_no_gpu()
    assert no_gpu(1).startswith("there is no NVIDIA GPU 1 or no driver here, because cuda")
    for name in [name for name in sys.modules if name.split(".")[0] == "cuda"]:
        del sys.modules[name]
