"""The rewrites of this form, in order, and what they make of a graph."""

from __future__ import annotations

import logging
from collections.abc import Collection

import onnx_ir as ir

from maxim_deploy.errors import check_known
from maxim_deploy.graph.onnxruntime_form import biases, gelus, norms, products

_log = logging.getLogger(__name__)

RULES = {
    "gelus": gelus.RULE,
    "biases": biases.RULE,
    "products": products.RULE,
    "norms": norms.RULE,
}
"""By name, in the order in which they are applied. GELUs take their products first, and biases move
while the products behind them are one operator each."""


def onnxruntime_form(model: ir.Model, names: Collection[str] = tuple(RULES)) -> ir.Model:
    """A graph that computes the same but for rounding, made for ONNX Runtime on a CPU.

    Args:
        model: a float32 graph of ours, of any I/O form; it is not modified.
        names: of the rules to apply.

    Returns:
        A new model. It shares the weights of the old one, under their names, and has a few small
        constants more. Where a rule refuses a node, the log has the reason at level DEBUG.

    Raises:
        UsageError: there is no such rule.
    """
    for name in names:
        check_known("rule", name, RULES)
    result = model.clone()
    for name in (name for name in RULES if name in names):
        rule = RULES[name]
        for node in [one for one in result.graph if one.op_type == rule.operator]:
            if refusal := rule.refusal(node):
                _log.debug("%s leaves %s: %s", name, node.name, refusal)
            else:
                rule.rewrite(node)
    if any(node.domain == gelus.DOMAIN for node in result.graph):
        result.opset_imports[gelus.DOMAIN] = 1
    return result
