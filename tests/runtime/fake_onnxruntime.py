"""ONNX Runtime with a CUDA provider, which runs on the CPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as real

from maxim_deploy.machine.tiny_graph import TINY_GRAPH
from maxim_deploy.runtime.onnxruntime_session import CUDA

CPU = "CPUExecutionProvider"


class FakeBinding:
    """A real binding, on the CPU."""

    def __init__(self, binding) -> None:
        self._real = binding

    def bind_ortvalue_input(self, name: str, ortvalue) -> None:
        self._real.bind_ortvalue_input(name, ortvalue)

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr) -> None:
        assert (device_type, device_id) == ("cuda", 0)
        self._real.bind_input(name, "cpu", 0, element_type, shape, buffer_ptr)

    def bind_output(self, name: str, device_type: str, device_id: int) -> None:
        assert (device_type, device_id) == ("cuda", 0)
        self._real.bind_output(name, "cpu", 0)

    def synchronize_outputs(self) -> None:
        self._real.synchronize_outputs()

    def get_outputs(self):
        return self._real.get_outputs()


class FakeOrt:
    """`onnxruntime-gpu`; `on_cpu` are types of nodes for which it has no CUDA kernel."""

    RunOptions = real.RunOptions
    __version__ = "1.32.0"

    def __init__(self, on_cpu: tuple[str, ...] = (), cuda_works: bool = True) -> None:
        self.on_cpu, self.cuda_works = on_cpu, cuda_works
        self.preloaded, self.shrunk, self.failing = 0, [], ""
        self.OrtValue = SimpleNamespace(
            ortvalue_from_numpy=lambda array, device, index: real.OrtValue.ortvalue_from_numpy(
                array
            )
        )

    def get_available_providers(self) -> list[str]:
        return [CUDA, CPU]

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def SessionOptions(self):  # noqa: N802
        self.options = real.SessionOptions()
        return self.options

    def InferenceSession(self, path, options, providers, enable_fallback):  # noqa: N802
        assert enable_fallback == 0 and self.preloaded >= 1
        self.provider = dict(providers[0][1])
        session = real.InferenceSession(path, options, providers=[CPU], enable_fallback=0)
        parts = session.get_provider_graph_assignment_info()

        def placed():
            for part in parts:
                (node,) = part.get_nodes()
                name = CPU if node.op_type in self.on_cpu else CUDA
                yield SimpleNamespace(ep_name=name, get_nodes=part.get_nodes)

        def run(binding, run_options):
            if self.failing:
                raise RuntimeError(self.failing)
            key = "memory.enable_memory_arena_shrinkage"
            try:
                self.shrunk.append(run_options.get_run_config_entry(key))
            except RuntimeError:
                self.shrunk.append("")
            cleared = real.RunOptions()  # the CPU build has no arena for gpu:0
            session.run_with_iobinding(binding._real, cleared)

        return SimpleNamespace(
            get_providers=lambda: [CUDA, CPU] if self.cuda_works else [CPU],
            disable_fallback=session.disable_fallback,
            get_provider_graph_assignment_info=placed,
            io_binding=lambda: FakeBinding(session.io_binding()),
            run_with_iobinding=run,
        )


def computed(image: np.ndarray) -> np.ndarray:
    """What the tiny graph computes, in other words than `verdict_on` uses."""
    red, green, blue = image[0]
    return np.stack([red + 2 * green, green + 2 * blue, blue + 2 * red])[np.newaxis]


class Session:
    """Of ONNX Runtime; `providers` is what it claims to have taken."""

    providers = ("CUDAExecutionProvider",)
    error = 0.0

    def __init__(self, graph: bytes, options: Any = None, providers: list[str] = ()) -> None:
        assert graph == TINY_GRAPH
        assert options is None or options.entries == {"session.disable_cpu_ep_fallback": "1"}

    def get_providers(self) -> tuple[str, ...]:
        return self.providers

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert names == ["restored"]
        return [computed(feeds["image"]) + np.float32(self.error)]


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value
