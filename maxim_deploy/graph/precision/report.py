"""The decision table as text: decisions, nodes and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from maxim_deploy.graph.precision.magnitudes import Magnitudes, seen_at
from maxim_deploy.graph.precision.table import Decision, PrecisionTable

DecidedNodes = dict[Decision, dict[str, float | None]]


def decided_nodes(table: PrecisionTable, model: ir.Model, seen: Magnitudes) -> DecidedNodes:
    """The nodes of a float32 graph that each decision applies to.

    Args:
        table: the decisions.
        model: the float32 graph.
        seen: measured magnitudes; may be empty.

    Returns:
        By decision and name of the node, the largest magnitude that it reads or writes; None if not
        measured. `PrecisionTable.to_json` records this, and `table_text` shows it.
    """
    opset = model.opset_imports[""]
    decided: DecidedNodes = {decision: {} for decision in table.decisions}
    for node, decision in table.resolve(model.graph).items():
        decided[decision][str(node.name)] = seen_at(node, opset, seen)
    return decided


def table_text(table: PrecisionTable, decided: DecidedNodes) -> str:
    """The table as text: decisions with their reasons and numbers, then the float32 nodes."""
    decisions = [
        (d.pattern, d.type, str(len(decided[d])), _number(d.value), d.measure, d.reason)
        for d in table.decisions
    ]
    nodes = [
        (name, decision.type, decision.pattern, _number(magnitude))
        for decision, names in decided.items()
        if decision.type == "float32"
        for name, magnitude in names.items()
    ]
    node_heads = ("node", "type", "decided by", "magnitude")
    shown = 4 if any(x is not None for names in decided.values() for x in names.values()) else 3
    heads = ("pattern", "type", "nodes", "number", "which says", "reason")
    return "\n".join(
        [
            f"{table.low}, but for these decisions (a later one overrules an earlier one):",
            "",
            *_aligned([heads, *decisions]),
            "",
            "float32 nodes, with the largest magnitude that each reads or writes, if known:",
            "",
            *_aligned([row[:shown] for row in (node_heads, *nodes)]),
            "",
        ]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
