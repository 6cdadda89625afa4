"""The libraries that build and run engines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineLibrary:
    """One library.

    Attributes:
        label: its name in prose.
        module: of Python.
        extra: of this package, that installs it.
        oldest: the first version that has everything we use, and deprecates what we do without.
        is_portable: whether kernels are compiled where an engine runs. Such an engine may be built
            on any machine, for named compute capabilities, and nothing is timed while it is built.
            An engine of other libraries is for the GPU and operating system that built it.
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
"""By the name that users, recipes and manifests have for it; it is also that of the backend."""


def is_portable(library: str) -> bool:
    """Whether a library's engines are; see `EngineLibrary`."""
    return library in ENGINE_LIBRARIES and ENGINE_LIBRARIES[library].is_portable
