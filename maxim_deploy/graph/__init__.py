"""ONNX graphs: names, files and checks. Needs onnx, never torch."""

from maxim_deploy.graph.checks import check_graph, check_no_example_sizes, node_count
from maxim_deploy.graph.files import name_nodes, save_graph
from maxim_deploy.graph.image_form import image_form
from maxim_deploy.graph.operators import check_operators
from maxim_deploy.graph.tensorrt_parse import parse_with_tensorrt_rtx

__all__ = [
    "check_graph",
    "check_no_example_sizes",
    "check_operators",
    "image_form",
    "name_nodes",
    "node_count",
    "parse_with_tensorrt_rtx",
    "save_graph",
]
