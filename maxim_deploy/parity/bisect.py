"""Search the nodes that must be float32 to keep a budget of error.

Roundings are mostly independent, so the mean squares of their errors nearly add up. This orders the
search. A trial of the whole graph always decides.

Towards float32, if the budget does not hold:

1. Each block is tried alone in low precision, with all else in float32. This gives its loss. An
overflow in one block does not hide the loss of others.
2. Blocks are sorted by loss per byte of traffic that float32 would add. A binary search finds the
shortest head of this list that keeps the budget.
3. The chosen blocks are replaced by their children, and the search repeats until no division is
worthwhile. The coarsest choice that costs little more than the cheapest, including casts, is taken.
Blocks that the budget does not need are then dropped.

Back to low precision: all islands of the table at once, or else one by one with the least loss per
byte first. An island that cannot go back as a whole is divided.
"""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.errors import UsageError
from maxim_deploy.parity.blocks import Block, Names, cover, parts
from maxim_deploy.parity.traffic import Traffic
from maxim_deploy.parity.trials import Trial, Trials

SLACK = 0.1
"""Of the traffic that float32 adds, what a shorter list of larger blocks may cost more."""

WORTH = 0.02
"""Of the traffic that the chosen blocks add, what a block must add to be divided further."""

_NOTHING = 1e-3
"""Bytes per pixel; keeps ratios finite where float32 costs nothing."""


@dataclass(frozen=True)
class Moved:
    """Nodes that changed their precision, and the trial that decided it.

    Attributes:
        nodes: their names.
        trial: of a block made float32, the block alone in low precision and all else in float32;
            of an island given back, the graph after it.
    """

    nodes: Names
    trial: Trial


@dataclass(frozen=True)
class Found:
    """The result of a search for islands.

    Attributes:
        islands: names of all float32 nodes.
        left: blocks that became float32, by what they lost, the worst first.
        returned: islands that went back to low precision, in order.
        before: accuracy of the graph before the search.
        after: accuracy of the graph after the search.
    """

    islands: Names
    left: list[Moved]
    returned: list[Moved]
    before: Trial
    after: Trial


@dataclass(frozen=True)
class Search:
    """Finds the islands that a budget needs.

    Attributes:
        trials: tries islands.
        traffic: traffic of the same graph.
        budget: least dB against the float32 graph, for the worst picture.
        kept: islands that always stay.
    """

    trials: Trials
    traffic: Traffic
    budget: float
    kept: Names = frozenset()

    def run(self, start: Names, groups: list[Names]) -> Found:
        """Search from the islands of a table.

        Args:
            start: its float32 nodes.
            groups: the same nodes by the decisions that made them float32.

        Raises:
            UsageError: even a graph in float32 throughout exceeds the budget.
        """
        before = self.trials.measure(start, "as it is")
        islands = start
        if before.worst < self.budget:
            self._check_reachable()
            chosen = self._leaving(start)
            islands = start.union(*(block.nodes for block in chosen))
            added = [block.nodes - start for block in chosen]
            islands, _ = self._returning(islands, added, divide=False)
        left = [b for b in cover(self.trials.tree, islands) if b.nodes - start]
        needed = frozenset().union(*(block.nodes for block in left))
        islands, returned = self._returning(islands, [g - needed for g in groups], divide=True)
        lost = [Moved(block.nodes, self._alone(block, start)) for block in left]
        lost.sort(key=lambda moved: moved.trial.worst)
        after = self.trials.measure(islands, "as it is to be")
        return Found(islands, lost, returned, before, after)

    def _check_reachable(self) -> None:
        best = self.trials.measure(self.trials.tree.nodes, "float32 throughout")
        if best.worst < self.budget:
            raise UsageError(
                f"a budget of {self.budget:g} dB cannot be kept: the graph with every node in "
                f"float32 is {best.worst:.1f} dB from the float32 graph; lower the budget"
            )

    def _alone(self, block: Block, start: Names) -> Trial:
        """A block as the table has it, and everything else in float32."""
        islands = self.trials.tree.nodes - (block.nodes - start)
        return self.trials.measure(islands, f"{block.path or 'the whole graph'} alone")

    def _leaving(self, start: Names) -> list[Block]:
        """The blocks to make float32."""
        frontier = [block for block in _divided([self.trials.tree]) if block.nodes - start]
        before = self.traffic.bytes_per_pixel(start)
        choices: list[tuple[float, list[Block]]] = []
        while True:
            chosen = self._fewest(start, frontier)
            islands = start.union(*(block.nodes for block in chosen))
            cost = self.traffic.added(islands - start)
            choices.append((self.traffic.bytes_per_pixel(islands) - before, chosen))
            worth = [
                block
                for block in chosen
                if block.children and self.traffic.added(block.nodes - start) >= WORTH * cost
            ]
            if not worth:
                break
            rest = [block for block in frontier if block not in worth]
            frontier = rest + [block for block in _divided(worth) if block.nodes - start]
        # A cost can be negative: an island that joins two others saves casts.
        least = min(cost for cost, _ in choices)
        return next(chosen for cost, chosen in choices if cost <= least + SLACK * abs(least))

    def _fewest(self, start: Names, blocks: list[Block]) -> list[Block]:
        """The shortest head of a list (most loss per byte first) that keeps the budget."""

        def loss_per_byte(block: Block) -> float:
            cost = self.traffic.added(block.nodes - start)
            return self._alone(block, start).power / max(cost, _NOTHING)

        ordered = sorted(blocks, key=loss_per_byte, reverse=True)
        # More float32 is better unless roundings happen to cancel. So the binary search may miss a
        # shorter head, but never the budget, because every returned table was tried.
        # No head was tried, and all blocks together are float32 throughout
        too_few, enough = 0, len(ordered)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            islands = start.union(*(block.nodes for block in ordered[:middle]))
            trial = self.trials.measure(islands, f"{middle} of {len(ordered)} blocks in float32")
            if trial.worst >= self.budget:
                enough = middle
            else:
                too_few = middle
        return ordered[:enough]

    def _returning(
        self, islands: Names, groups: list[Names], *, divide: bool
    ) -> tuple[Names, list[Moved]]:
        """The islands that remain of some, and those of the groups that can go back."""
        groups = [group - self.kept for group in groups if group - self.kept]
        everything: Names = frozenset().union(*groups)
        if len(groups) > 1:
            # Often no island is needed on these pictures. One trial then replaces a trial of each.
            trial = self.trials.measure(islands - everything, "without any of these islands")
            if trial.worst >= self.budget:
                return islands - everything, [Moved(group, trial) for group in groups]
        returned = []
        while groups:
            failed: list[Names] = []
            for group in self._by_loss(islands, groups, failed):
                trial = self.trials.measure(islands - group, f"without {self._named(group)}")
                if trial.worst >= self.budget:
                    islands -= group
                    returned.append(Moved(group, trial))
                else:
                    failed.append(group)
            groups = [p for g in failed for p in parts(self.trials.tree, g)] if divide else []
        return islands, returned

    def _by_loss(self, islands: Names, groups: list[Names], failed: list[Names]) -> list[Names]:
        """Groups that could go back alone, the least loss per byte first."""
        now = self.trials.measure(islands, "with all islands").power
        ratios = []
        for position, group in enumerate(groups):
            trial = self.trials.measure(islands - group, f"without {self._named(group)}")
            if trial.worst >= self.budget:
                saved = max(self.traffic.added(group), _NOTHING)
                ratios.append(((trial.power - now) / saved, position))
            else:
                failed.append(group)
        return [groups[position] for _, position in sorted(ratios)]

    def _named(self, nodes: Names) -> str:
        blocks = cover(self.trials.tree, nodes)
        more = f" and {len(blocks) - 1} more" if len(blocks) > 1 else ""
        return f"{blocks[0].path or 'any island'}{more}"


def _divided(blocks: list[Block]) -> list[Block]:
    return [part for block in blocks for part in (block.children or (block,))]
