"""Optional dependencies, imported where they are used."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType

from maxim_deploy.errors import MissingDependencyError

EXTRAS = {
    "cpu": ("onnxruntime", "platformdirs"),
    "openvino": ("openvino", "platformdirs"),
    "bench": ("jinja2", "matplotlib", "onnx", "onnx_ir", "platformdirs", "psutil", "pynvml"),
    "export": ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "platformdirs"),
    "video": ("av",),
    "cloud": ("fsspec", "s3fs", "aiohttp"),
    "triton": ("tritonclient", "geventhttpclient", "gevent", "google"),
    "hdr": ("imagecodecs", "tifffile"),
    "serve": ("starlette", "uvicorn", "prometheus_client"),
    "rtx": ("tensorrt_rtx", "cuda", "filelock"),
    "tensorrt": ("tensorrt", "cuda", "filelock"),
    "pycuda": ("pycuda",),
    "ray": ("ray",),
}
"""The modules of each extra. If two extras bring a module, the first is the smaller install."""

ENVIRONMENT = {
    "onnxruntime": ("ORT_DISABLE_TELEMETRY", "1"),
    "ray": ("RAY_USAGE_STATS_ENABLED", "0"),
}
"""A variable that a module reads as it is imported or later, and the value that we set.

ONNX Runtime 1.32 stores a device identifier and events in the home folder and sends them to its
maker. It decides on import: `disable_telemetry_events()` afterwards is too late. A Ray cluster
reports how it is used to Ray's maker unless it was started with this variable.
"""


COMPANIONS = {"openvino": "openvino_telemetry"}
"""Telemetry packages: a module imports its companion, but works without it.

`import openvino` (2026.4) stores an identifier in the home folder and sends an event to its maker,
unless its companion is missing.
"""


def require(module: str, extra: str) -> ModuleType:
    """Import a module. Its variable of `ENVIRONMENT` is set first, unless it has a value.

    Its companion of `COMPANIONS` is hidden during the import. Neither affects a module that the
    application has already imported.

    Raises:
        MissingDependencyError: it is not installed, or cannot be imported; the message is the pip
            line for `extra`.
    """
    library = module.partition(".")[0]
    if library in ENVIRONMENT and library not in sys.modules:
        os.environ.setdefault(*ENVIRONMENT[library])
    try:
        with _without(COMPANIONS.get(library)):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A dependency of the module is missing: a broken install, not a missing extra.
        if error.name is None or error.name.split(".")[0] != library:
            raise
        raise not_installed(module, extra) from error
    # A system library is missing or too old. The type of the exception depends on the module.
    except Exception as error:
        raise MissingDependencyError(
            f"{module} is installed, but importing it fails ({type(error).__name__}: {error}); "
            f"run: pip install --force-reinstall 'maxim-deploy[{extra}]'"
        ) from error


@contextmanager
def _without(companion: str | None) -> Iterator[None]:
    """Hide a package from imports in the block, unless it is imported already."""
    if companion is None or companion in sys.modules:
        yield
        return
    sys.modules[companion] = None  # type: ignore[assignment]  # what Python takes for missing
    try:
        yield
    finally:
        del sys.modules[companion]


def require_extra(extra: str) -> None:
    """Raise an error unless every module of an extra is installed. Nothing is imported.

    Raises:
        MissingDependencyError: one is not installed; the message is the pip line.
    """
    for module in EXTRAS[extra]:
        if importlib.util.find_spec(module) is None:
            raise not_installed(module, extra)


def has_extra(extra: str) -> bool:
    """Whether every module of an extra is installed. Nothing is imported."""
    return all(importlib.util.find_spec(module) for module in EXTRAS[extra])


def missing_dependency(error: ModuleNotFoundError) -> MissingDependencyError | None:
    """The pip line for a failed import, or None if no extra brings the missing module."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules and importlib.util.find_spec(module) is None:
            return not_installed(module, extra)
    return None


def not_installed(module: str, extra: str) -> MissingDependencyError:
    """The error whose message is the pip line for a module."""
    return MissingDependencyError(
        f"{module} is not installed; run: pip install 'maxim-deploy[{extra}]'"
    )


def installed_version(package: str) -> str | None:
    """The version of an installed package by its pip name; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
