"""MAXIM image restoration, from published checkpoints to deployed engines.

    import maxim_deploy

    with maxim_deploy.load("export/out/demo-denoise") as restorer:
        clean = restorer(noisy)  # HWC RGB, any size; uint8, uint16 or float32

Importing this package loads nothing heavy; each room below it imports what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maxim_deploy._version import __version__
from maxim_deploy.errors import (
    BackendError,
    BundleError,
    CheckpointError,
    DownloadError,
    EngineError,
    ExportError,
    ImageError,
    MaximDeployError,
    MissingDependencyError,
    UsageError,
    VideoError,
)

if TYPE_CHECKING:
    from maxim_deploy.runtime import Plan, Restorer, RestorerInfo, load

__all__ = [
    "BackendError",
    "BundleError",
    "CheckpointError",
    "DownloadError",
    "EngineError",
    "ExportError",
    "ImageError",
    "MaximDeployError",
    "MissingDependencyError",
    "Plan",
    "Restorer",
    "RestorerInfo",
    "UsageError",
    "VideoError",
    "__version__",
    "load",
]

_RUNTIME_NAMES = {"Plan", "Restorer", "RestorerInfo", "load"}


def __getattr__(name: str) -> Any:
    """Import the runtime on first use, so that `import maxim_deploy` stays instant."""
    if name in _RUNTIME_NAMES:
        from maxim_deploy import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
