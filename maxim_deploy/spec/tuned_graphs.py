"""Manifest entries of graphs that were rewritten for one library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maxim_deploy.spec.decoding import NOT_STORED
from maxim_deploy.spec.export_record import GraphRecord


@dataclass(frozen=True)
class TunedGraph:
    """A graph of a bundle that was rewritten to run faster with one library.

    It has the input, output and weights of the plain graph, and differs only in rounding. It may
    use operators of the library. A reader that does not know tuned graphs runs the plain ones.

    Attributes:
        file: file name, `<precision>.<io>.<library>.onnx`.
        of: file name of the plain graph, one of `graphs`.
        library: the backend that runs it. "onnxruntime" is ONNX Runtime on a CPU.
        nodes: number of nodes.
        measured: measurements of the export. They are in `export.json`, not in the manifest.
        unknown: keys that only newer versions know, kept when the manifest is written again.
    """

    file: str
    of: str
    library: str
    nodes: int
    measured: GraphRecord = field(default_factory=GraphRecord, metadata=NOT_STORED)
    unknown: dict[str, Any] = field(default_factory=dict)
