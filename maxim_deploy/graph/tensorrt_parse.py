"""Would TensorRT take this graph? TensorRT for RTX's own parser answers, without a GPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxim_deploy.errors import ExportError, MissingDependencyError
from maxim_deploy.machine.tensorrt import load_library, parse_graph, type_name


@dataclass(frozen=True)
class Binding:
    """An input or output as the parser sees it; free sizes are -1."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ParseReport:
    """What TensorRT for RTX made of a graph.

    Attributes:
        library: the library and its version.
        inputs: of the network.
        outputs: of the network.
        layers: number of layers, before TensorRT fuses any. Constants and the arithmetic of sizes
            count.
        layers_by_type: number of layers by the type of their first output: "float32", "float16",
            "bfloat16", "int64" and so on.
        warnings: what the library said while it parsed, at the level of a warning.
    """

    library: str
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    layers: int
    layers_by_type: dict[str, int]
    warnings: tuple[str, ...]


def parse_with_tensorrt_rtx(path: Path) -> ParseReport | None:
    """Parse a graph, with the weights beside it, into a strongly typed TensorRT network.

    No engine is built: a parse takes seconds at most and finds unknown operators, attributes and
    mixtures of types. What only a build finds is rare: ConvTranspose in bfloat16 (version 1.7).

    Args:
        path: the ONNX file.

    Returns:
        What the parser made of it, or None if TensorRT for RTX is not installed.

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
    network = parsed.network
    types = Counter(
        type_name(network.get_layer(k).get_output(0).dtype) for k in range(network.num_layers)
    )
    return ParseReport(
        library=f"tensorrt_rtx {trt.__version__}",
        inputs=tuple(_binding(network.get_input(k)) for k in range(network.num_inputs)),
        outputs=tuple(_binding(network.get_output(k)) for k in range(network.num_outputs)),
        layers=network.num_layers,
        layers_by_type=dict(types.most_common()),
        warnings=tuple(parsed.logger.texts("WARNING")),
    )


def _binding(tensor: Any) -> Binding:
    return Binding(tensor.name, type_name(tensor.dtype), tuple(tensor.shape))
