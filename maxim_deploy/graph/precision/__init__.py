"""Mixed precision: which nodes stay float32 and why, the casts, and the proof that both hold.

In order: `default_table`, `magnitudes` on pictures, `with_safe_range`, `low_precision`,
`verify_types`, and `compare_graphs` on the result's `simulated_in_float32`.
"""

from maxim_deploy.graph.precision.compare import Difference, compare_graphs, difference
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.magnitudes import magnitudes, with_safe_range
from maxim_deploy.graph.precision.pictures import probe_pictures
from maxim_deploy.graph.precision.report import decided_nodes, table_text
from maxim_deploy.graph.precision.simulated import simulated_in_float32
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.graph.precision.verify import verify_types

__all__ = [
    "Decision",
    "Difference",
    "PrecisionTable",
    "compare_graphs",
    "decided_nodes",
    "default_table",
    "difference",
    "low_precision",
    "magnitudes",
    "probe_pictures",
    "simulated_in_float32",
    "table_text",
    "verify_types",
    "with_safe_range",
]
