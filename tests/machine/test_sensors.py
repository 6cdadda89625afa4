from __future__ import annotations

from types import SimpleNamespace

import pytest

from maxim_deploy.errors import MissingDependencyError
from maxim_deploy.machine import facts, sensors
from maxim_deploy.machine.sensors import GpuSensors, gpu_sensors

pynvml = pytest.importorskip("pynvml", reason="pip install 'maxim-deploy[bench]'")


class FakeNvml:
    """`pynvml`, with the names and constants of the installed one."""

    NVMLError = pynvml.NVMLError

    def __init__(self, reasons: int = 0, without: str = "") -> None:
        self.reasons, self.without = reasons, without
        self.asked: list[tuple] = []

    def __getattr__(self, name: str):
        real = getattr(pynvml, name)  # no such name: AttributeError
        if not callable(real):
            return real

        def call(*arguments):
            self.asked.append((name, *arguments))
            if name == self.without:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return self.answers(name, arguments)

        return call

    def answers(self, name: str, arguments: tuple) -> object:
        clocks = {pynvml.NVML_CLOCK_SM: 1500, pynvml.NVML_CLOCK_MEM: 6000}
        return {
            "nvmlInit": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: "580.65",
            "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}",
            "nvmlDeviceGetHandleByPciBusId": lambda place: f"gpu at {place.decode()}",
            "nvmlDeviceGetClockInfo": lambda _, kind: clocks[kind],
            "nvmlDeviceGetMaxClockInfo": lambda _, kind: 2 * clocks[kind],
            "nvmlDeviceGetTemperature": lambda _, kind: 64,
            "nvmlDeviceGetPowerUsage": lambda _: 71_500,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: self.reasons,
        }[name](*arguments)


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
    from maxim_deploy.machine.gpu import Gpu

    gpu = Gpu("NVIDIA L4", "8.9", 24 * 10**9, "13.0")
    monkeypatch.setattr(facts, "find_gpu", lambda device: gpu)
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
