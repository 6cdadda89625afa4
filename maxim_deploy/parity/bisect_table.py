"""The decision table that a search ends in: every new decision with its reason and its number."""

from __future__ import annotations

import math

import onnx_ir as ir

from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.graph.precision.type_constraints import is_border, is_float
from maxim_deploy.parity.bisect import Found, Moved
from maxim_deploy.parity.blocks import Block, Names, block_tree, cover


def float_tree(model: ir.Model) -> Block:
    """The nodes that a decision table can speak of, as blocks."""
    nodes = [node for node in model.graph if is_float(node) and not is_border(node)]
    return block_tree(str(node.name) for node in nodes)


def decided_groups(table: PrecisionTable, model: ir.Model) -> dict[Decision, Names]:
    """The float32 nodes by the decision that made them so, in the order of the table."""
    resolved = table.resolve(model.graph)
    return {
        decision: frozenset(str(node.name) for node, by in resolved.items() if by is decision)
        for decision in table.decisions
        if decision.type == "float32"
    }


def table_from(
    found: Found, start: PrecisionTable, model: ir.Model, budget: float
) -> PrecisionTable:
    """The table of `found.islands`.

    Args:
        found: what a search from `start` has found.
        start: its decisions keep their places; those that were given back say so.
        model: the float32 graph.
        budget: as given to the search, in dB.
    """
    tree = float_tree(model)
    groups = decided_groups(start, model)
    decisions: list[Decision] = []
    for decision in start.decisions:
        back = _returned_of(groups.get(decision, frozenset()), found)
        if back and frozenset().union(*(moved.nodes for moved in back)) == groups[decision]:
            decisions.append(_given_back(decision.pattern, start.low, back[-1], budget))
            continue
        decisions.append(decision)
        decisions += [
            _given_back(block.pattern, start.low, moved, budget)
            for moved in back
            for block in cover(tree, moved.nodes)
        ]
    decisions += [
        _left(block, start.low, moved, budget)
        for moved in found.left
        for block in cover(tree, moved.nodes)
    ]
    table = PrecisionTable(start.low, tuple(decisions))
    assert {str(node.name) for node in table.islands(model.graph)} == found.islands
    return table


def _returned_of(nodes: Names, found: Found) -> list[Moved]:
    return [moved for moved in found.returned if moved.nodes <= nodes and moved.nodes]


def _given_back(pattern: str, low: str, moved: Moved, budget: float) -> Decision:
    return Decision(
        pattern,
        low,
        f"in {low} the graph still keeps the budget of {budget:g} dB",
        f"dB from float32 with this in {low}",
        _number(moved),
    )


def _left(block: Block, low: str, moved: Moved, budget: float) -> Decision:
    number = _number(moved)
    measure = f"dB from float32 with this block alone in {low}"
    if number is None:
        measure = f"not finite with this block alone in {low}"
    reason = f"in {low} the graph does not keep the budget of {budget:g} dB"
    return Decision(block.pattern, "float32", reason, measure, number)


def _number(moved: Moved) -> float | None:
    worst = moved.trial.worst
    return round(worst, 2) if math.isfinite(worst) else None
