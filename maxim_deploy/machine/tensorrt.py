"""Common code for both TensorRT libraries: loading, messages, parsing.

The Python modules `tensorrt` and `tensorrt_rtx` have the same API. Both are used strongly typed.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import MissingDependencyError, check_known
from maxim_deploy.spec.engine_libraries import ENGINE_LIBRARIES
from maxim_deploy.spec.precision import PRECISIONS

_TYPE_NAMES = {
    name: row.type for row in PRECISIONS.values() for name in (row.tensorrt, row.name.upper())
}
"""Types of NumPy and ONNX by TensorRT's names in its API and its formats."""


def load_library(name: str) -> ModuleType:
    """The module of a TensorRT library.

    Args:
        name: a key of `ENGINE_LIBRARIES`.

    Raises:
        UsageError: there is no such library.
        MissingDependencyError: it is not installed, or too old; the message is the pip line.
    """
    check_known("engine library", name, ENGINE_LIBRARIES)
    library = ENGINE_LIBRARIES[name]
    module = require(library.module, library.extra)
    if version_of(module) < library.oldest:
        oldest = ".".join(map(str, library.oldest))
        raise MissingDependencyError(
            f"{name} {module.__version__} is too old, expected {oldest} or newer; run: pip "
            f"install --upgrade 'maxim-deploy[{library.extra}]'"
        )
    return module


def version_of(library: ModuleType) -> tuple[int, ...]:
    """A library's version as numbers, for comparison."""
    return tuple(map(int, re.findall(r"\d+", library.__version__)))


def type_name(dtype: Any) -> str:
    """The name in NumPy and ONNX of a TensorRT type."""
    return readable_type(dtype.name)


def readable_type(name: str) -> str:
    """The same for names such as "HALF", or "Half" and "FP16" in lists of layers."""
    return _TYPE_NAMES.get(name.upper(), name.lower())


def collecting_logger(trt: ModuleType) -> Any:
    """A logger that prints nothing and keeps `messages`, pairs of severity and text."""

    class CollectingLogger(trt.ILogger):  # type: ignore[name-defined, misc]  # known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.messages.append((severity.name, message))

    return CollectingLogger()


def quiet_logger(trt: ModuleType) -> Any:
    """The library's own logger, silent below internal errors.

    Use it for all code that runs engines. The library logs from its own threads, and some calls
    wait for these threads while they hold the GIL. A logger in Python needs the GIL, so both would
    wait for ever. An `error_recorder` provides the errors instead.
    """
    return trt.Logger(trt.Logger.INTERNAL_ERROR)


def error_recorder(trt: ModuleType, kept: int = 100) -> Any:
    """A `trt.IErrorRecorder` that keeps the last errors in `messages`, as a logger does.

    It is written in Python too. Set it on an object only for calls that release the GIL:
    `deserialize_cuda_engine`, `create_execution_context` and `execute_async_v3`. Each time it is
    set, the bindings keep another reference to it for the life of the object.
    """

    class CollectingRecorder(trt.IErrorRecorder):  # type: ignore[name-defined, misc]  # as above
        def __init__(self) -> None:
            super().__init__()
            # Bounded, because an application may run for months and every run may fail.
            self._errors: deque[tuple[Any, str]] = deque(maxlen=kept)

        @property
        def messages(self) -> list[tuple[str, str]]:
            # Copied at once: the library may write from its own threads.
            return [("ERROR", f"{text} ({code.name})") for code, text in list(self._errors)]

        def report_error(self, code: Any, description: str) -> bool:
            self._errors.append((code, description))
            return True  # the error is fatal to the call

        def num_errors(self) -> int:
            return len(self._errors)

        def get_error_code(self, index: int) -> Any:
            return self._errors[index][0]

        def get_error_desc(self, index: int) -> str:
            return self._errors[index][1]

        def has_overflowed(self) -> bool:
            return False  # the oldest go first

        def clear(self) -> None:
            self._errors.clear()

    return CollectingRecorder()


@dataclass(frozen=True)
class ParsedGraph:
    """A graph as a TensorRT network, or the reasons why it was refused.

    Attributes:
        trt: the library's module.
        builder: the `trt.Builder` that made `network`. It must outlive `network`.
        network: the `trt.INetworkDefinition`, strongly typed.
        logger: a result of `collecting_logger`.
        errors: the parser's errors, one line per node; empty if it accepts the graph.
    """

    trt: ModuleType
    builder: Any
    network: Any
    logger: Any
    errors: tuple[str, ...]


def parse_graph(trt: ModuleType, path: Path) -> ParsedGraph:
    """Parse an ONNX file with its weights beside it into a strongly typed network."""
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(path))
    errors = () if parsed else tuple(_reason(parser.get_error(k)) for k in range(parser.num_errors))
    if not parsed and not errors:
        errors = ("the parser gives no reason; check that it is an ONNX file",)
    return ParsedGraph(trt, builder, network, logger, errors)


def _strongly_typed(trt: ModuleType) -> int:
    """The creation flags. A version that has only strong typing may lack the flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _reason(error: Any) -> str:
    where = f"{error.node_name() or 'the file'} {error.node_operator()}".rstrip()
    return f"{where}: {error.desc()}"
