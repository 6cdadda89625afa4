"""The runs of the network for one call: a single run, tiles, or eight orientations."""

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
    """Runs the network in a call's turn. Others may run between two of its runs.

    Args:
        backend: the backend.
        plan: plan of the call. Its memory is reserved.
        call: options of the call, whose progress is called after each run.
        turn: of the call.
        turns: all turns of the backend.
        memory: reserves memory.
    """

    def __init__(
        self, backend: Backend, plan: Plan, call: Call, turn: Turn, turns: Turns, memory: Allotment
    ) -> None:
        self._backend, self._plan, self._call, self._turn = backend, plan, call, turn
        self._turns, self._memory = turns, memory
        self._is_long = is_long(plan, call.self_ensemble)
        self._done, self._total = 0, runs_in(plan, call.self_ensemble)

    def width(self) -> int:
        """The number of concurrent runs allowed now, after letting waiting callers run.

        Raises:
            BaseException: the reason of the turn's `stop`.
        """
        if self._done and self._is_long:
            self._make_way()
        # Beside other calls a call has one lane. Alone, tiles use all lanes: concurrent runs with
        # few threads each are faster than sequential runs with all threads.
        wide = self._plan.lanes if self._turn.is_alone else 1
        return wide if self._memory.widen(self._turn, self._plan, wide) else 1

    def several(self, images: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run several arrays concurrently, at most as many as `width` allowed.

        Args:
            images: C-contiguous arrays in the graph's form.

        Raises:
            Exception: as `Backend.run_in_turn`, or an exception of the call's `progress`.
        """
        run, turn = self._backend.run_in_turn, self._turn
        if len(images) == 1:
            restored = [run(images[0], turn)]
        else:
            beside = replace(turn, is_alone=False)
            with ThreadPoolExecutor(len(images), "maxim-deploy-tiles") as threads:
                # All have ended at the end of the block, even if one failed.
                restored = list(threads.map(lambda image: run(image, beside), images))
        self._done += len(images)
        if self._call.progress:
            self._call.progress(RunProgress(self._done, self._total))
        return restored

    def _make_way(self) -> None:
        """Let waiting callers run. Their plans include this call's arrays."""
        turns, memory, turn, plan = self._turns, self._memory, self._turn, self._plan
        if not turns.share(turn):
            return
        memory.release(turn)
        turns.again(turn)
        if not memory.reserve(turn, plan):
            # Beside others there may be too little memory for a plan made alone.
            turns.again(turn, only=True)
            memory.reserve(turn, plan)


def runs_in(plan: Plan, self_ensemble: bool) -> int:
    """The number of runs of a call."""
    runs = -(-plan.tiles // plan.batch) if plan.tiles > 1 else 1
    return runs * (ORIENTATIONS if self_ensemble else 1)


def run_pixels(plan: Plan) -> int:
    """Padded pixels of each run."""
    height, width = plan.tile or plan.padded
    return plan.batch * height * width


def is_long(plan: Plan, self_ensemble: bool) -> bool:
    """Whether others should not have to wait for all of its runs."""
    runs = runs_in(plan, self_ensemble)
    return runs > 1 and runs * run_pixels(plan) > LARGE_PIXELS
