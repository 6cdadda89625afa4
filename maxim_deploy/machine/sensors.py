"""Clocks, temperature and throttling of a GPU, through NVML. Optional.

A GPU is found by its PCI address: NVML counts all GPUs of the machine, but CUDA only those that
`CUDA_VISIBLE_DEVICES` allows.

Records of `maxim-deploy accept` contain the values as `state` of the GPU.
"""

from __future__ import annotations

from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import MissingDependencyError

_REASONS = {
    "SwPowerCap": "power cap",
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "temperature (driver)",
    "HwThermalSlowdown": "temperature (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
}
"""NVML's reasons for a reduced clock that make a measurement slower. Idling and clocks set by a
user do not count."""


class GpuSensors:
    """NVML's view of one GPU.

    Args:
        device: CUDA's index.

    Raises:
        MissingDependencyError: the package `nvidia-ml-py` is not installed.
        LookupError: there is no driver, or no such GPU.
    """

    def __init__(self, device: int = 0) -> None:
        nvml = self._nvml = require("pynvml", "bench")
        try:
            nvml.nvmlInit()
            self._handle = _handle(nvml, device)
            driver = nvml.nvmlSystemGetDriverVersion()
        except nvml.NVMLError as error:
            raise LookupError(str(error)) from error
        self.driver = driver.decode() if isinstance(driver, bytes) else str(driver)

    def read(self) -> dict[str, Any]:
        """`sm_mhz`, `memory_mhz` and their maxima, `temperature_c`, `power_w`, and `throttled`.

        `throttled` is a list of reasons. Values that this GPU does not report are None.
        """
        nvml, gpu = self._nvml, self._handle
        sm, memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
        power = self._ask("nvmlDeviceGetPowerUsage", gpu)  # milliwatts
        return {
            "sm_mhz": self._ask("nvmlDeviceGetClockInfo", gpu, sm),
            "sm_max_mhz": self._ask("nvmlDeviceGetMaxClockInfo", gpu, sm),
            "memory_mhz": self._ask("nvmlDeviceGetClockInfo", gpu, memory),
            "memory_max_mhz": self._ask("nvmlDeviceGetMaxClockInfo", gpu, memory),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", gpu, nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power / 1e3,
            "throttled": self._throttled(),
        }

    def _throttled(self) -> list[str]:
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", self._handle) or 0
        return [
            words
            for name, words in _REASONS.items()
            if bits & getattr(self._nvml, f"nvmlClocksThrottleReason{name}")
        ]

    def _ask(self, question: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, question)(*arguments)
        # Not every GPU has every sensor.
        except self._nvml.NVMLError:
            return None


def gpu_sensors(device: int = 0) -> GpuSensors | None:
    """The sensors of a GPU; None without the GPU or without NVML."""
    try:
        return GpuSensors(device)
    except (MissingDependencyError, LookupError):
        return None


def _handle(nvml: Any, device: int) -> Any:
    try:
        runtime = require("cuda.bindings.runtime", "rtx")
        error, place = runtime.cudaDeviceGetPCIBusId(32, device)
    # cuda-bindings raise a RuntimeError if there is no driver, and any exception if broken.
    except Exception:
        return nvml.nvmlDeviceGetHandleByIndex(device)
    if int(error):
        raise LookupError(f"CUDA: {error}")
    return nvml.nvmlDeviceGetHandleByPciBusId(place.rstrip(b"\0"))
