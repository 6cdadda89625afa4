"""The parts of a rewrite of this form, and the nodes that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Attributes = dict[str, int | float]


@dataclass(frozen=True)
class Rule:
    """One rewrite of single nodes.

    Attributes:
        operator: type of the nodes that it examines.
        refusal: returns the reason to leave a node unchanged, or None to rewrite it.
        rewrite: replaces an accepted node in its graph.
    """

    operator: str
    refusal: Callable[[ir.Node], str | None]
    rewrite: Callable[[ir.Node], None]


class Replacement:
    """The nodes that replace one node.

    Their names are paths below its name, so profiles find their module.

    Args:
        node: the node to replace. It belongs to a graph and has one output.
    """

    def __init__(self, node: ir.Node) -> None:
        assert node.graph is not None
        self.node, self.graph = node, node.graph
        self._made: list[ir.Node] = []

    def __call__(
        self, operator: str, *inputs: ir.Value, domain: str = "", **attributes: int | float
    ) -> ir.Value:
        """The output of a new node."""
        name = f"{self.node.name}/{operator}_{len(self._made)}"
        output = ir.Value(name=name, type=self.node.outputs[0].type)
        self._made.append(
            ir.node(operator, inputs, attributes, domain=domain, outputs=[output], name=name)
        )
        return output

    def constant(self, name: str, array: NDArray[np.float32] | NDArray[np.int64]) -> ir.Value:
        """An initializer of this value. Nodes that use the same name share it."""
        found = self.graph.initializers.get(name)
        if found is None:
            found = ir.val(name, const_value=ir.tensor(array, name=name))
            self.graph.register_initializer(found)
        return found

    def append(self, result: ir.Value) -> None:
        """Put the new nodes after the node. `result` replaces its output for other nodes."""
        old = self.node.outputs[0]
        result.shape = old.shape
        own = {id(made) for made in self._made}
        readers = [(user, position) for user, position in old.uses() if id(user) not in own]
        self.graph.insert_after(self.node, self._made)
        for user, position in readers:
            user.replace_input_with(position, result)

    def finish(self, result: ir.Value, *replaced: ir.Node) -> None:
        """Put the new nodes in place.

        Args:
            result: value that replaces the node's output, with its name, type and shape.
            replaced: earlier nodes whose outputs have no other reader. They are removed too.
        """
        old = self.node.outputs[0]
        ir.convenience.replace_nodes_and_values(
            self.graph, self.node, [self.node, *replaced], self._made, [old], [result]
        )
