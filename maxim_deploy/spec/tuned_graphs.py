"""Graphs that were rewritten for one library, in a bundle's manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maxim_deploy.spec.decoding import NOT_STORED
from maxim_deploy.spec.export_record import GraphRecord


@dataclass(frozen=True)
class TunedGraph:
    """A graph of a bundle, rewritten so that one library runs it faster.

    It computes what the other one does but for rounding, and has its input, output and weights. It
    may have operators of the library's own. A reader that does not know these graphs runs the
    others.

    Attributes:
        file: its name in the bundle, `<precision>.<io>.<library>.onnx`.
        of: file of the graph that it was made from, one of `graphs`.
        library: the backend that runs it: "onnxruntime", which is ONNX Runtime on a CPU.
        nodes: number of nodes.
        measured: what was measured of it at export; in `export.json`, not in the manifest.
        unknown: what only newer versions say of it, kept on rewriting.
    """

    file: str
    of: str
    library: str
    nodes: int
    measured: GraphRecord = field(default_factory=GraphRecord, metadata=NOT_STORED)
    unknown: dict[str, Any] = field(default_factory=dict)
