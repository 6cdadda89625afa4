"""Build within a time budget."""

from __future__ import annotations

import time
from collections.abc import Callable

from maxim_deploy._progress import Progress
from maxim_deploy.engines.building import BuiltEngine, OutOfTimeError
from maxim_deploy.errors import EngineError

SHARE = 0.6
"""Share of the remaining time for an attempt that can fall back to a lower level."""

STEP = 2
"""Levels to go down at a time. Neighbouring levels differ little."""


def build_within(
    budget_s: float,
    level: int,
    build: Callable[[int, float], BuiltEngine],
    *,
    level_matters: bool,
    progress: Progress,
) -> BuiltEngine:
    """Build at a level within a budget, and retry at lower levels if time runs out.

    Args:
        budget_s: seconds for all attempts together.
        level: first optimization level.
        build: builds at a level within a number of seconds, or raises `OutOfTimeError`.
        level_matters: whether the library builds faster at a lower level. TensorRT for RTX does
            not, so it has one attempt.
        progress: called when the level is lowered.

    Raises:
        EngineError: the last attempt also ran out of time.
    """
    until = time.monotonic() + budget_s
    levels = [*list(range(level, 0, -STEP)), 0] if level_matters else [level]
    for current, lower in zip(levels, [*levels[1:], None], strict=True):
        left = max(until - time.monotonic(), 0.0)
        try:
            # The last level gets all the remaining time, because nothing is left to fall back to.
            return build(current, left if lower is None else left * SHARE)
        except OutOfTimeError:
            if lower is not None:
                progress(
                    f"optimization level {current} takes too long for the budget; trying {lower}"
                )
    why = (
        f"not even at optimization level {levels[-1]}"
        if level_matters
        else "and this library builds no faster at a lower optimization level"
    )
    raise EngineError(
        f"the build exceeded the budget of {budget_s:.0f} s, {why}: raise the budget, or pass "
        "fewer or smaller profiles"
    )
