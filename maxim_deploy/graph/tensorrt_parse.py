"""Check that TensorRT accepts a graph, with TensorRT for RTX's parser and without a GPU."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy.errors import ExportError, MissingDependencyError
from maxim_deploy.machine.tensorrt import ParsedGraph, load_library, parse_graph


def parse_with_tensorrt_rtx(path: Path) -> ParsedGraph | None:
    """Parse a graph with its weights beside it into a strongly typed TensorRT network.

    No engine is built. A parse takes seconds at most and finds unknown operators, attributes and
    mixed types. Few faults show only in a build, such as ConvTranspose in bfloat16 (version 1.7).

    Args:
        path: the ONNX file.

    Returns:
        The parsed network, or None if TensorRT for RTX is not installed.

    Raises:
        ExportError: the parser refuses the graph; the message lists each node and reason.
    """
    try:
        trt = load_library("tensorrt-rtx")
    except MissingDependencyError:
        return None
    parsed = parse_graph(trt, path)
    if parsed.errors:
        why = "; ".join(parsed.errors)
        raise ExportError(f"TensorRT for RTX {trt.__version__} refuses {path.name}: {why}")
    return parsed
