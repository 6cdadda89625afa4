"""ONNX graphs: names, files and checks. Needs onnx, never torch."""

from maxim_deploy.graph.checks import check_graph, node_count
from maxim_deploy.graph.files import name_nodes, save_graph

__all__ = ["check_graph", "name_nodes", "node_count", "save_graph"]
