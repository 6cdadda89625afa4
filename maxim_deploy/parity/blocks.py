"""The tree of blocks that the names of nodes spell: `stages/0/encoder/1/groups/...`."""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

Names = frozenset[str]


@dataclass(frozen=True)
class Block:
    """All nodes whose names begin alike, or a single node.

    Attributes:
        path: what the names share, without a slash at the end; empty for the whole graph.
        pattern: matches these nodes and no others, in a decision table.
        nodes: their names.
        children: disjoint, together the same nodes, two at least; none for a single node.
    """

    path: str
    pattern: str
    nodes: Names
    children: tuple[Block, ...] = ()


def block_tree(names: Iterable[str]) -> Block:
    """The whole graph as a block.

    Args:
        names: of the float nodes, all different; blocks come in the order of their first nodes.
    """
    return _block("", list(names))


def cover(tree: Block, nodes: Names) -> list[Block]:
    """The largest blocks that together are exactly `nodes`, which are nodes of the tree."""
    if not nodes:
        return []
    if tree.nodes <= nodes:
        return [tree]
    return [found for child in tree.children for found in cover(child, nodes & child.nodes)]


def parts(tree: Block, nodes: Names) -> list[Names]:
    """Two or more disjoint parts of `nodes`, by the first block that divides them; or none."""
    for child in tree.children:
        if nodes <= child.nodes:
            return parts(child, nodes)
    return [nodes & child.nodes for child in tree.children if nodes & child.nodes]


def _block(path: str, names: list[str]) -> Block:
    groups: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for name in names:
        first, slash, _ = name.removeprefix(f"{path}/" if path else "").partition("/")
        groups[f"{path}/{first}" if path else first, bool(slash)].append(name)
    children = tuple(
        _block(below, members) if is_block else Block(below, glob.escape(below), frozenset(members))
        for (below, is_block), members in groups.items()
    )
    if len(children) == 1 and not children[0].children:
        return children[0]
    if len(children) == 1:  # the shorter name says as much
        children = children[0].children
    pattern = f"{glob.escape(path)}/*" if path else "*"
    return Block(path, pattern, frozenset(names), children)
