"""The decision table: nodes of a low-precision graph that compute in float32, with reasons.

As JSON, format 1:

| key | content |
|---|---|
| `format` | 1; a reader refuses other numbers |
| `type` | a `Precision.type`, such as "float16", of all nodes without a decision |
| `decisions` | list of `pattern`, `type`, `reason`, `measure`, `value` (see `Decision`) |
| `decisions[].nodes` | nodes it applied to, with their largest magnitude or null; not read back |

Reasons and numbers are not checked on reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import onnx_ir as ir

from maxim_deploy._reading import load_json
from maxim_deploy.errors import ExportError, nearest, shown, unknown
from maxim_deploy.graph.precision.roles import ROLES
from maxim_deploy.graph.precision.type_constraints import is_border, is_float, require_types
from maxim_deploy.spec.decoding import decoded
from maxim_deploy.spec.precision import LOW, Precision

FORMAT = 1
LOW_TYPES = {row.type: row for row in LOW.values()}


@dataclass(frozen=True)
class Decision:
    """One line of the table.

    Attributes:
        pattern: a role (a key of `ROLES`), or node names with `*` and `?`.
        type: "float32", or the table's low-precision type.
        reason: reason in words.
        measure: meaning of the deciding number; empty without one.
        value: the deciding number.
    """

    pattern: str
    type: str
    reason: str
    measure: str = ""
    value: float | None = None


@dataclass(frozen=True)
class PrecisionTable:
    """Decisions. A later one overrules an earlier one. Nodes without a decision have type `low`."""

    low: str
    decisions: tuple[Decision, ...]

    def __post_init__(self) -> None:
        if self.low not in LOW_TYPES:
            raise ExportError(unknown("low-precision type", self.low, LOW_TYPES))
        for decision in self.decisions:
            allowed = ("float32", self.low)
            if decision.type not in allowed:
                raise ExportError(
                    f"decision {decision.pattern!r}: {unknown('type', decision.type, allowed)}"
                )

    @property
    def precision(self) -> Precision:
        """The precision that the table is for."""
        return LOW_TYPES[self.low]

    @property
    def data_type(self) -> ir.DataType:
        """The low-precision type as ONNX names it."""
        return ir.DataType(self.precision.onnx)

    def resolve(self, graph: ir.Graph) -> dict[ir.Node, Decision]:
        """The decision of each float node that has one.

        Raises:
            ExportError: a pattern matches nothing, so an island would be missing, or the graph
                lacks types.
        """
        require_types(graph)
        resolved: dict[ir.Node, Decision] = {}
        for decision in self.decisions:
            resolved |= dict.fromkeys(_matches(graph, decision.pattern), decision)
        return resolved

    def islands(self, graph: ir.Graph) -> set[ir.Node]:
        """The nodes that compute in float32. Raises as `resolve` does."""
        resolved = self.resolve(graph)
        return {node for node, decision in resolved.items() if decision.type == "float32"}

    def to_json(self, nodes: Mapping[Decision, Mapping[str, float | None]] | None = None) -> str:
        """The table as JSON. `nodes` are recorded with their decisions, see the module."""
        records = [
            {**asdict(decision), "nodes": dict((nodes or {}).get(decision, {}))}
            for decision in self.decisions
        ]
        document = {"format": FORMAT, "type": self.low, "decisions": records}
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PrecisionTable:
        """The inverse of `to_json`.

        Raises:
            ExportError: the text is not JSON, has another format, or has an unknown or missing key
                or type.
        """
        try:
            document = load_json(text)
            if document["format"] != FORMAT:
                raise ExportError(
                    f"precision table of format {document['format']}; this maxim-deploy reads "
                    f"format {FORMAT}"
                )
            decisions = decoded(list[dict[str, Any]], document["decisions"], "decisions")
            return cls(decoded(str, document["type"], "type"), tuple(map(_decision, decisions)))
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"not a precision table: {shown(error)}") from error


def _decision(record: dict[str, Any]) -> Decision:
    given = {key: value for key, value in record.items() if key != "nodes"}
    decision: Decision = decoded(Decision, given, "decision")
    return decision


def _matches(graph: ir.Graph, pattern: str) -> list[ir.Node]:
    # Without casts of the conversion, so a table matches the same nodes before and after it.
    names = {node.name or "": node for node in graph if is_float(node) and not is_border(node)}
    if pattern in ROLES:
        found = ROLES[pattern](graph)
    else:
        found = [node for name, node in names.items() if fnmatchcase(name, pattern)]
    # A pattern without a match means a missing island, so it is an error.
    if not found:
        raise ExportError(
            f"precision table: {pattern!r} matches no float node of this graph"
            f"{nearest(pattern, {*ROLES, *names} - {pattern})}; roles are: {', '.join(ROLES)}"
        )
    return found
