"""The runs of the network that one call takes: one, tile after tile, or eight orientations."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.runtime.allotment import Allotment
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.batching import ORIENTATIONS
from maxim_deploy.runtime.call import Call
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.progress import RunProgress
from maxim_deploy.runtime.turns import LARGE_PIXELS, Turn, Turns


class Runs:
    """Runs the network in a call's turn; between two runs others have theirs.

    Args:
        backend: that runs.
        plan: of the call; its memory is reserved.
        call: is told of each run.
        turn: of the call.
        turns: that it is one of.
        memory: that reserves.
    """

    def __init__(
        self, backend: Backend, plan: Plan, call: Call, turn: Turn, turns: Turns, memory: Allotment
    ) -> None:
        self._backend, self._plan, self._call, self._turn = backend, plan, call, turn
        self._turns, self._memory = turns, memory
        self._is_long = is_long(plan, call.self_ensemble)
        self._done, self._total = 0, runs_in(plan, call.self_ensemble)

    def width(self) -> int:
        """How many runs may be side by side now, after letting those run who wait.

        Raises:
            BaseException: the reason of the turn's `stop`.
        """
        if self._done and self._is_long:
            self._make_way()
        # Beside other calls each has one of the lanes. Alone, tiles take them all: as many runs of
        # few threads each are faster than the same runs one after the other with all threads.
        wide = self._plan.lanes if self._turn.is_alone else 1
        return wide if self._memory.widen(self._turn, self._plan, wide) else 1

    def several(self, images: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run on arrays side by side, at most as many as `width` said.

        Args:
            images: in the form of the graph, C-contiguous.

        Raises:
            Exception: as `Backend.run_in_turn`, and what the call's `progress` raises.
        """
        run, turn = self._backend.run_in_turn, self._turn
        if len(images) == 1:
            restored = [run(images[0], turn)]
        else:
            beside = replace(turn, is_alone=False)
            with ThreadPoolExecutor(len(images), "maxim-deploy-tiles") as threads:
                # All have ended when the block is left, also when one of them fails.
                restored = list(threads.map(lambda image: run(image, beside), images))
        self._done += len(images)
        if self._call.progress:
            self._call.progress(RunProgress(self._done, self._total))
        return restored

    def _make_way(self) -> None:
        """Let those run who wait. What the call holds is in what they plan with."""
        turns, memory, turn, plan = self._turns, self._memory, self._turn, self._plan
        if not turns.share(turn):
            return
        memory.release(turn)
        turns.again(turn)
        if not memory.reserve(turn, plan):
            # Beside others there is no room for what was planned alone.
            turns.again(turn, only=True)
            memory.reserve(turn, plan)


def runs_in(plan: Plan, self_ensemble: bool) -> int:
    """How many runs a call takes."""
    runs = -(-plan.tiles // plan.batch) if plan.tiles > 1 else 1
    return runs * (ORIENTATIONS if self_ensemble else 1)


def run_pixels(plan: Plan) -> int:
    """Padded pixels of each of them."""
    height, width = plan.tile or plan.padded
    return plan.batch * height * width


def is_long(plan: Plan, self_ensemble: bool) -> bool:
    """Whether nobody should wait for all of its runs."""
    runs = runs_in(plan, self_ensemble)
    return runs > 1 and runs * run_pixels(plan) > LARGE_PIXELS
