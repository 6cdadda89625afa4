"""Write the graphs of a bundle that are rewritten for ONNX Runtime on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx_ir as ir

from maxim_deploy._progress import Progress
from maxim_deploy.export.verify import verify_tuned_form
from maxim_deploy.graph.checks import check_graph, operator_counts
from maxim_deploy.graph.files import save_beside
from maxim_deploy.graph.onnxruntime_form.form import onnxruntime_form
from maxim_deploy.machine.run_memory import measured_run_memory
from maxim_deploy.spec.export_record import GraphRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.precision import FULL
from maxim_deploy.spec.tuned_graphs import TunedGraph

LIBRARY = "onnxruntime"

MIN_FEATURES = 32
"""Least features of networks that gain, which all published networks have. On two threads of a Zen
3, S-2 takes 0.90 of the plain graph's time at 256x256. The demo model, with 8 features, takes 1.07
there and 1.20 at 64x64: its narrow products are bound by memory traffic, and a separate sum adds to
it."""


def tuned_graphs(
    folder: Path, graphs: Sequence[GraphEntry], *, verify: bool, progress: Progress
) -> Iterator[TunedGraph]:
    """Write and check the graph that ONNX Runtime on a CPU runs in place of the float32 graph.

    There is one for the tensor form, or else for the image form, in the order of preference of
    `Restorer`. The literal form has none, because it stays literal. Graphs with embedded weights
    have none, because the weights would be stored twice.

    Args:
        folder: folder of the bundle, with its graphs and weights.
        graphs: the bundle's plain graphs.
        verify: compare each with its plain graph, and measure the memory of runs.
        progress: called with each step in words.

    Raises:
        ExportError: the graph is not valid, or differs from its plain graph.
        BackendError: the graph does not run.
    """
    of_io = {
        entry.io: entry
        for entry in graphs
        if entry.precision == FULL and entry.form != "literal" and entry.weights is not None
    }
    entry = of_io.get("tensor") or of_io.get("image")
    if entry is None:
        return
    progress(f"rewriting {entry.file} for ONNX Runtime on a CPU")
    path = folder / f"{entry.precision}.{entry.io}.{LIBRARY}.onnx"
    model = onnxruntime_form(ir.load(folder / entry.file))
    save_beside(model, path, {"tuned_for": LIBRARY})
    check_graph(path, entry.io)
    measured = _measured(folder / entry.file, path, entry, progress) if verify else GraphRecord()
    nodes = operator_counts(path).total()
    yield TunedGraph(path.name, entry.file, LIBRARY, nodes, measured)


def _measured(plain: Path, tuned: Path, entry: GraphEntry, progress: Progress) -> GraphRecord:
    progress("comparing it with the plain graph")
    rounding = max((one.get("rounding", 0.0) for one in entry.measured.parity), default=0.0)
    record = GraphRecord(verify_tuned_form(plain, tuned, entry.io, rounding))
    # Memory is measured with the tensor form. The image form takes over its measurement.
    if entry.io == "image":
        return record.with_run_memory(entry.measured.run_memory)
    progress("measuring its memory")
    return record.with_run_memory(measured_run_memory(tuned, in_file_order=True))
