"""The GPU as the driver describes it, or none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from maxim_deploy.errors import MissingDependencyError
from maxim_deploy.machine import gpu
from maxim_deploy.machine.gpu import Gpu, find_gpu


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
