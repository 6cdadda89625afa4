"""Write planar graphs as single files from a bundle, without tracing."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy._optional import require
from maxim_deploy.hosts.order import Order


def write_planar(order: Order, precision: str, path: Path) -> None:
    """Write the planar form of a precision with embedded weights.

    Args:
        order: order whose bundle has this precision in the tensor or planar form.
        precision: precision inside the graph. Input and output have `order.wishes.io_type`.
        path: the graph's file.

    Raises:
        BundleError: a file of the bundle is missing or has changed.
        ExportError: the graph is not valid.
        MissingDependencyError: `onnx` is not installed.
    """
    require("onnx_ir", "export")
    from maxim_deploy.graph.checks import check_graph
    from maxim_deploy.graph.files import load_whole_graph, save_graph
    from maxim_deploy.graph.planar_form import planar_form

    bundle, io_type = order.bundle, order.wishes.io_type
    forms = {entry.io for entry in bundle.manifest.graphs if entry.precision == precision}
    entry = bundle.graph(precision, "tensor" if "tensor" in forms else "planar")
    order.progress(f"writing {path.name}")
    with bundle.private_graph(entry) as file:
        graph = load_whole_graph(file)
    metadata = {**graph.metadata_props, "io": "planar", "io_type": io_type}
    if entry.io == "tensor":
        graph = planar_form(graph, io_type)
    save_graph(graph, path, None, metadata)
    check_graph(path, "planar", io_type)
