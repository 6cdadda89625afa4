"""The rewrites of this form in order, and their application."""

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
"""Rules by name, in the order of application. GELUs take their products first. Biases move while
each product after them is still a single operator."""


def onnxruntime_form(model: ir.Model, names: Collection[str] = tuple(RULES)) -> ir.Model:
    """An equal graph, except for rounding, made for ONNX Runtime on a CPU.

    Args:
        model: one of our float32 graphs, of any I/O form. It is not modified.
        names: names of the rules to apply.

    Returns:
        A new model that shares the old one's weights by name and has a few further small constants.
        If a rule refuses a node, the log has the reason at level DEBUG.

    Raises:
        UsageError: a rule is unknown.
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
