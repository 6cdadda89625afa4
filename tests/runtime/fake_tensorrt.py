"""TensorRT without a GPU: an engine that inverts its input, and writes down what it is asked."""

from __future__ import annotations

import ctypes
import math
from types import SimpleNamespace

import numpy as np
from runtime.cuda.fakes import FakeRuntime

BYTES_PER_PIXEL = 10


class FakeContext:
    def __init__(self, engine: FakeEngine, made_with: object) -> None:
        self.engine, self.made_with, self.calls = engine, made_with, []
        self.addresses: dict[str, int] = {}
        self.memory = (0, 0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.calls.append(("profile", profile_index, stream_handle))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        self.calls.append(("shape", shape))
        self.shape = shape
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return math.prod(self.shape[:3]) * BYTES_PER_PIXEL

    def set_device_memory(self, memory: int, size: int) -> None:
        self.calls.append(("memory", memory, size))
        self.memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.calls.append(("execute", stream_handle))
        assert self.memory[1] >= self.update_device_memory_size_for_shapes()
        assert self.memory[0] in self.engine.api.blocks, "runs in memory that was freed"
        source, target, size = (
            *map(self.addresses.get, ("image", "restored")),
            math.prod(self.shape),
        )
        if self.engine.failing:
            self.engine.logger.log(SimpleNamespace(name="ERROR"), self.engine.failing)
            return False
        self.engine.api.launch_or_capture(lambda: _invert(source, target, size))
        return True


def _invert(source: int, target: int, size: int) -> None:
    pixels = np.frombuffer((ctypes.c_uint8 * size).from_address(source), np.uint8)
    ctypes.memmove(target, (255 - pixels).tobytes(), size)


class FakeCache:
    def __init__(self) -> None:
        self.content = b""

    def serialize(self) -> bytes:
        return self.content

    def deserialize(self, blob: bytes) -> bool:
        self.content = b"" if blob == b"refused" else blob
        return blob != b"refused"


class FakeConfig:
    def __init__(self) -> None:
        self.cache: FakeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: object) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> FakeCache:
        return FakeCache()

    def set_runtime_cache(self, cache: FakeCache) -> bool:
        self.cache = cache
        return True


class FakeEngine:
    num_io_tensors = 2

    def __init__(self, api: FakeRuntime, trt: SimpleNamespace, logger: object) -> None:
        self.api, self.trt, self.logger, self.failing = api, trt, logger, ""
        self.contexts: list[FakeContext] = []
        self.configs: list[FakeConfig] = []

    def get_tensor_name(self, index: int) -> str:
        return self.trt.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"image": "in", "restored": "out"}.get(name, "in")

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return 256 * 256 * BYTES_PER_PIXEL

    def create_execution_context(self, made_with: object) -> FakeContext:
        self.contexts.append(FakeContext(self, made_with))
        return self.contexts[-1]

    def create_runtime_config(self) -> FakeConfig:
        self.configs.append(FakeConfig())
        return self.configs[-1]


def fake_module(api: FakeRuntime, version: str = "10.14.1") -> SimpleNamespace:
    """A module of either library; `engines` are those that were deserialized."""
    trt = SimpleNamespace(__version__=version, names=["image", "restored"], engines=[], refuses="")

    class Runtime:
        def __init__(self, logger: object) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
            assert serialized_engine == b"plan" and api.current == 0
            if trt.refuses:
                self.logger.log(SimpleNamespace(name="ERROR"), trt.refuses)
                return None
            trt.engines.append(FakeEngine(api, trt, self.logger))
            return trt.engines[-1]

    trt.Runtime, trt.ILogger = Runtime, object
    trt.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    trt.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
    trt.CudaGraphStrategy = SimpleNamespace(DISABLED="no", WHOLE_GRAPH_CAPTURE="whole")
    trt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(
        LAZY="lazy", EAGER="eager", NONE="none"
    )
    return trt
