"""TensorRT without a GPU: an engine that inverts its input, and writes down what it is asked."""

from __future__ import annotations

import ctypes
import math
from types import SimpleNamespace

import numpy as np
from runtime.cuda.fakes import FakeRuntime

BYTES_PER_PIXEL = 10


class FakeRecorder:
    """`IErrorRecorder`."""


class FakeLogger:
    """`Logger`, the library's own; no other may run an engine."""

    INTERNAL_ERROR = 0

    def __init__(self, min_severity: int) -> None:
        self.min_severity = min_severity


class Reporting:
    """What has an error recorder."""

    def __init__(self) -> None:
        self.recorders: list[object] = [None]

    @property
    def error_recorder(self) -> object:
        return self.recorders[-1]

    @error_recorder.setter
    def error_recorder(self, recorder: object) -> None:
        self.recorders.append(recorder)  # the bindings keep all of them, too

    def report(self, text: str) -> None:
        """An error of a call that releases the interpreter's lock, as the recorder may need it."""
        if self.error_recorder is not None:
            self.error_recorder.report_error(SimpleNamespace(name="UNSPECIFIED_ERROR"), text)  # type: ignore[attr-defined]

    def hold_lock(self) -> None:
        """What a call that holds the interpreter's lock may meet: nobody who would need it."""
        assert self.error_recorder is None, "a thread of the library's would wait for us"


class FakeContext(Reporting):
    def __init__(self, engine: FakeEngine, made_with: object) -> None:
        super().__init__()
        self.engine, self.made_with, self.calls = engine, made_with, []
        self.error_recorder = engine.error_recorder
        self.addresses: dict[str, int] = {}
        self.memory = (0, 0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.hold_lock()
        self.calls.append(("profile", profile_index, stream_handle))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        self.hold_lock()
        self.calls.append(("shape", shape))
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        self.hold_lock()
        return {"image": self.shape, "restored": self.engine.trt.shape or self.shape}[name]

    def update_device_memory_size_for_shapes(self) -> int:
        self.hold_lock()
        return self.engine.size_of(self.shape)

    def set_device_memory(self, memory: int, size: int) -> None:
        self.hold_lock()
        self.calls.append(("memory", memory, size))
        self.memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.hold_lock()
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self.engine.api.current == self.engine.trt.device
        self.calls.append(("execute", stream_handle))
        needed = self.engine.size_of(self.shape)
        assert self.memory[1] >= needed
        assert not needed or self.memory[0] in self.engine.api.blocks, "runs in freed memory"
        source, target, size = (
            *map(self.addresses.get, ("image", "restored")),
            math.prod(self.shape),
        )
        if self.engine.failing:
            self.report(self.engine.failing)
            return False
        self.engine.api.launch_or_capture(lambda: _invert(source, target, size))
        return True


def _invert(source: int, target: int, size: int) -> None:
    pixels = np.frombuffer((ctypes.c_uint8 * size).from_address(source), np.uint8)
    ctypes.memmove(target, (255 - pixels).tobytes(), size)


class FakeCache:
    empty = b""

    def __init__(self) -> None:
        self.content = self.empty

    def serialize(self) -> bytes:
        return self.content

    def deserialize(self, blob: bytes) -> bool:
        self.content = self.empty if blob == b"refused" else blob
        return blob != b"refused"


class FakeConfig:
    takes_cache = True

    def __init__(self) -> None:
        self.cache: FakeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: object) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> FakeCache:
        return FakeCache()

    def set_runtime_cache(self, cache: FakeCache) -> bool:
        self.cache = cache
        return self.takes_cache


class FakeEngine(Reporting):
    num_io_tensors = 2

    def __init__(self, api: FakeRuntime, trt: SimpleNamespace, recorder: object) -> None:
        super().__init__()
        self.api, self.trt, self.error_recorder, self.failing = api, trt, recorder, ""
        self.bytes_per_pixel = BYTES_PER_PIXEL
        self.contexts: list[FakeContext] = []
        self.configs: list[FakeConfig] = []

    def size_of(self, dims: tuple[int, ...]) -> int:
        return math.prod(dims[:3]) * self.bytes_per_pixel

    def get_tensor_name(self, index: int) -> str:
        self.hold_lock()
        return self.trt.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"image": "in", "restored": "out"}.get(name, "in")

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        self.hold_lock()
        return SimpleNamespace(name=self.trt.types.get(name, self.trt.types["image"]))

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return 256 * 256 * BYTES_PER_PIXEL

    def create_execution_context(self, made_with: object) -> FakeContext:
        if self.failing == "no context":
            self.report(self.failing)
            return None  # type: ignore[return-value]
        self.contexts.append(FakeContext(self, made_with))
        return self.contexts[-1]

    def create_runtime_config(self) -> FakeConfig:
        self.configs.append(FakeConfig())
        return self.configs[-1]


def fake_module(api: FakeRuntime, version: str = "10.14.1") -> SimpleNamespace:
    """A module of either library; `engines` are those that were deserialized."""
    trt = SimpleNamespace(__version__=version, names=["image", "restored"], engines=[], refuses="")
    trt.device, trt.types, trt.shape = 0, {"image": "UINT8"}, ()

    class Runtime(Reporting):
        def __init__(self, logger: object) -> None:
            super().__init__()
            assert isinstance(logger, FakeLogger), "threads of the library's would wait for us"

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
            assert serialized_engine == b"plan" and api.current == trt.device
            if trt.refuses:
                self.report(trt.refuses)
                return None
            trt.engines.append(FakeEngine(api, trt, self.error_recorder))
            return trt.engines[-1]

    trt.Runtime, trt.Logger, trt.IErrorRecorder = Runtime, FakeLogger, FakeRecorder
    trt.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    trt.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
    trt.CudaGraphStrategy = SimpleNamespace(DISABLED="no", WHOLE_GRAPH_CAPTURE="whole")
    trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(
        LAZY="lazy", EAGER="eager", NONE="none"
    )
    return trt
