"""The graphs of a bundle that are rewritten for one library: ONNX Runtime on a CPU."""

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
"""Of networks that gain from it, which all published ones have. Two threads of a Zen 3: S-2 takes
0.90 of the plain graph's time at 256x256; the demo model, with 8 features, 1.07 there and 1.20 at
64x64. So narrow products move more memory than they compute, and a sum apart moves it once more."""


def tuned_graphs(
    folder: Path, graphs: Sequence[GraphEntry], *, verify: bool, progress: Progress
) -> Iterator[TunedGraph]:
    """Write and check what ONNX Runtime on a CPU runs in the place of a bundle's float32 graph.

    Of the two I/O forms there is one: of the tensor form, or else of the image form, as a
    `Restorer` prefers them. There is none of the literal form, which stays literal, and of graphs
    with weights inside, which would lie in the bundle a second time.

    Args:
        folder: of the bundle, with its graphs and weights.
        graphs: those that it lists.
        verify: compare each with the graph that it is made from, and measure the memory of runs.
        progress: told what is being done.

    Raises:
        ExportError: the graph is not valid, or differs from the one that it is made from.
        BackendError: it does not run.
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
    progress("comparing it with the graph that it was made from")
    rounding = max((one.get("rounding", 0.0) for one in entry.measured.parity), default=0.0)
    record = GraphRecord(verify_tuned_form(plain, tuned, entry.io, rounding))
    # Only graphs of the tensor form are measured. The image form's has what was measured of it.
    if entry.io == "image":
        return record.with_run_memory(entry.measured.run_memory)
    progress("measuring its memory")
    return record.with_run_memory(measured_run_memory(tuned, in_file_order=True))
