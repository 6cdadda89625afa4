"""The libraries that build and run engines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineLibrary:
    """One library.

    Attributes:
        label: its name in prose.
        module: name of the Python module.
        extra: extra of this package that installs it.
        oldest: the first version that has everything we use.
        is_portable: whether kernels are compiled where the engine runs. A portable engine can be
            built on any machine, for named compute capabilities, and the build times nothing. An
            engine of another library runs only on the GPU and operating system that built it.
    """

    label: str
    module: str
    extra: str
    oldest: tuple[int, ...]
    is_portable: bool = False


ENGINE_LIBRARIES = {
    "tensorrt": EngineLibrary("TensorRT", "tensorrt", "tensorrt", oldest=(10, 12)),
    "tensorrt-rtx": EngineLibrary(
        "TensorRT for RTX", "tensorrt_rtx", "rtx", oldest=(1, 4), is_portable=True
    ),
}
"""The libraries by name, which users, recipes and manifests use. The backend has the same name."""


def is_portable(library: str) -> bool:
    """Whether a library's engines are portable; see `EngineLibrary`."""
    return library in ENGINE_LIBRARIES and ENGINE_LIBRARIES[library].is_portable
