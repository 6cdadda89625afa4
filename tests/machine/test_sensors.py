from __future__ import annotations

from types import SimpleNamespace

import pytest
from gpus import L4
from machine.fakes import FakeNvml, pynvml

from maxim_deploy.errors import MissingDependencyError
from maxim_deploy.machine import facts, sensors
from maxim_deploy.machine.sensors import GpuSensors, gpu_sensors


def installed(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, place: bytes | None) -> None:
    def require(module: str, extra: str) -> object:
        if module == "pynvml":
            return nvml
        if place is None:
            raise MissingDependencyError(module)
        answer = (0, place + b"\0" * 4)
        return SimpleNamespace(cudaDeviceGetPCIBusId=lambda length, device: answer)

    monkeypatch.setattr(sensors, "require", require)


def test_clocks_temperature_power_and_throttling(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = pynvml.nvmlClocksThrottleReasonSwPowerCap | pynvml.nvmlClocksThrottleReasonGpuIdle
    nvml = FakeNvml(reasons | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown)
    installed(monkeypatch, nvml, b"0000:3B:00.0")
    gpu = GpuSensors()
    assert gpu.driver == "580.65"
    assert gpu.read() == {
        "sm_mhz": 1500, "sm_max_mhz": 3000, "memory_mhz": 6000, "memory_max_mhz": 12000,
        "temperature_c": 64, "power_w": 71.5,
        "throttled": ["power cap", "temperature (hardware)"],
    }  # fmt: skip
    assert {call[1] for call in nvml.asked if "DeviceGet" in call[0]} >= {"gpu at 0000:3B:00.0"}


def test_a_sensor_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, FakeNvml(without="nvmlDeviceGetPowerUsage"), None)
    found = GpuSensors(2).read()
    assert found["power_w"] is None and found["sm_mhz"] == 1500


def test_without_driver_or_package_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, FakeNvml(without="nvmlInit"), None)
    assert gpu_sensors() is None

    def missing(module: str, extra: str) -> object:
        raise MissingDependencyError(module)

    monkeypatch.setattr(sensors, "require", missing)
    assert gpu_sensors() is None


def test_the_environment_has_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "find_gpu", lambda device: L4)
    monkeypatch.setattr(facts, "gpu_sensors", lambda device: None)
    found = facts.gpu_facts()
    assert found == {
        "name": "NVIDIA L4", "compute_capability": "8.9", "memory_bytes": 24 * 10**9,
        "cuda": "13.0", "driver": None, "state": None,
    }  # fmt: skip
    installed(monkeypatch, FakeNvml(), None)
    monkeypatch.setattr(facts, "gpu_sensors", gpu_sensors)
    found = facts.gpu_facts()
    assert found is not None and found["driver"] == "580.65" and found["state"]["sm_mhz"] == 1500
