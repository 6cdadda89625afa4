"""TensorRT and CUDA, as far as building an engine sees them."""

from __future__ import annotations

from types import SimpleNamespace


class FakeCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content

    def combine(self, other: FakeCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.content += other.content
        return True


class FakeRefitter:
    def __init__(self, engine: object, logger: object) -> None:
        self.good = engine

    def refit_cuda_engine(self) -> bool:
        return self.good != "incomplete"

    def get_missing_weights(self) -> list[str]:
        return ["stages.0.weight"]


class FakeParserRefitter:
    num_errors = 1

    def __init__(self, refitter: FakeRefitter, logger: object) -> None:
        self.good = refitter.good

    def refit_from_file(self, model: str) -> bool:
        return self.good != "unreadable"

    def get_error(self, k: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: "no such weight")


def fake_driver(failing: str = "") -> SimpleNamespace:
    def call(name: str, *results: object):
        return lambda *_: (1 if name == failing else 0, *results)

    attributes = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
    )
    return SimpleNamespace(
        cuInit=call("cuInit"),
        cuDeviceGet=call("cuDeviceGet", 0),
        cuDeviceGetName=call("cuDeviceGetName", b"NVIDIA L4\0\0"),
        cuDeviceTotalMem=call("cuDeviceTotalMem", 24 * 10**9),
        cuDriverGetVersion=call("cuDriverGetVersion", 13000),
        cuDeviceGetAttribute=lambda which, _: (0, {"major": 8, "minor": 9}[which]),
        CUdevice_attribute=attributes,
    )
