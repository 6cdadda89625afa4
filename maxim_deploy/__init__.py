"""MAXIM image restoration, from published checkpoints to deployed engines.

    import maxim_deploy

    with maxim_deploy.load("export/out/demo-denoise") as restorer:
        clean = restorer(noisy)  # HWC RGB, any size; uint8, uint16 or float32
        maxim_deploy.restore_file(restorer, "noisy.jpg", "clean.png")

Importing this package loads no heavy library. Each module imports what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from maxim_deploy._version import __version__
from maxim_deploy.errors import (
    BackendError,
    BundleError,
    CancelledError,
    CheckpointError,
    DeadlineError,
    DownloadError,
    EngineError,
    ExportError,
    ImageError,
    ImageTooLargeError,
    MaximDeployError,
    MissingDependencyError,
    PixelRangeWarning,
    QueueFullError,
    StoreError,
    UsageError,
    VideoError,
)

if TYPE_CHECKING:
    from maxim_deploy.imaging.files import read_image, write_image
    from maxim_deploy.imaging.picture import Picture
    from maxim_deploy.imaging.video import VideoEncoding
    from maxim_deploy.jobs.job import FileResult
    from maxim_deploy.jobs.naming import FilePlan, plan_files
    from maxim_deploy.jobs.progress import FileProgress
    from maxim_deploy.jobs.restore import read_size, restore_file, restore_files
    from maxim_deploy.runtime import (
        Plan,
        Restoration,
        Restorer,
        RestorerInfo,
        RunProgress,
        load,
    )

__all__ = [
    "BackendError",
    "BundleError",
    "CancelledError",
    "CheckpointError",
    "DeadlineError",
    "DownloadError",
    "EngineError",
    "ExportError",
    "FilePlan",
    "FileProgress",
    "FileResult",
    "ImageError",
    "ImageTooLargeError",
    "MaximDeployError",
    "MissingDependencyError",
    "Picture",
    "PixelRangeWarning",
    "Plan",
    "QueueFullError",
    "Restoration",
    "Restorer",
    "RestorerInfo",
    "RunProgress",
    "StoreError",
    "UsageError",
    "VideoEncoding",
    "VideoError",
    "__version__",
    "load",
    "plan_files",
    "read_image",
    "read_size",
    "restore_file",
    "restore_files",
    "write_image",
]

_LAZY_MODULES = {
    "runtime": ("Plan", "Restoration", "Restorer", "RestorerInfo", "RunProgress", "load"),
    "imaging.files": ("read_image", "write_image"),
    "imaging.picture": ("Picture",),
    "imaging.video": ("VideoEncoding",),
    "jobs.job": ("FileResult",),
    "jobs.naming": ("FilePlan", "plan_files"),
    "jobs.progress": ("FileProgress",),
    "jobs.restore": ("read_size", "restore_file", "restore_files"),
}


def __getattr__(name: str) -> Any:
    """Import its module on first use, so that `import maxim_deploy` stays instant."""
    for module, names in _LAZY_MODULES.items():
        if name in names:
            return getattr(import_module(f"maxim_deploy.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
