"""A GPU and its driver, which are not here."""

from __future__ import annotations

import pytest

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
