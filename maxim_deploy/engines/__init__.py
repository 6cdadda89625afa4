"""From a bundle's graph to TensorRT engines, and what is known of those that are there."""

from maxim_deploy.engines.build_monitor import BuildStep
from maxim_deploy.engines.engine_file import BuildOptions
from maxim_deploy.engines.inspection import inspect_bundle, inspection_text
from maxim_deploy.engines.store import add_engine, check_buildable

__all__ = [
    "BuildOptions",
    "BuildStep",
    "add_engine",
    "check_buildable",
    "inspect_bundle",
    "inspection_text",
]
