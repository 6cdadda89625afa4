"""Choose the number of concurrent runs on a CPU.

Concurrent runs with few threads each wait less for each other. On two idle cores two runs give 1.1
to 1.2 times the pictures per second of one run with all threads, and 1.7 times beside another busy
process. One run finishes each picture sooner. So a single call always runs alone, and lanes serve
several pictures. The gain depends on the machine and is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import UsageError
from maxim_deploy.imaging.padding import Padding
from maxim_deploy.machine.other_load import LoadWatch
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.run_times import seconds_of
from maxim_deploy.runtime.speeds import Speed, Speeds
from maxim_deploy.runtime.turns import Turn

LaneOption = int | Literal["auto"]

SIDES = (256, 128)
"""Largest sides of the pictures for measuring: the second one for a slow network. Larger pictures
take longer and give the same answer unless tensors exceed the processor's cache."""

SLOW_S = 0.25
"""Seconds of a run of the first side from which on the second is used."""

MIN_TURNS, BUDGET_S = 2, 1.0
"""Turns of each number of lanes, and seconds after which no turn starts."""

MIN_GAIN = 1.05
"""Least gain of several lanes that justifies their memory."""

SIMILAR = 4
"""Largest ratio of pixels at which an earlier measurement applies."""


@dataclass
class LaneChoice:
    """Chooses the number of lanes of a backend, at most once per kind of work.

    Attributes:
        backend: a backend on a CPU.
        asked: "auto", or the number.
        speeds: known measurements, to which new ones are added.

    Raises:
        UsageError: the number is not valid, or the backend's lanes cannot be chosen.
    """

    backend: Backend
    asked: LaneOption
    speeds: Speeds

    def __post_init__(self) -> None:
        self._watch = LoadWatch()
        self._chosen_by: list[Speed] = []
        if self.asked == "auto":
            return
        if type(self.asked) is not int or self.asked < 1:
            raise UsageError(f"lanes must be 'auto' or a number from 1 on, not {self.asked!r}")
        if self.asked != self.backend.lanes:
            self.backend.use_lanes(self.asked)

    @property
    def is_open(self) -> bool:
        """Whether there is a choice."""
        return self.asked == "auto" and self.backend.max_lanes > 1

    def look_up(self) -> int | None:
        """The best number by earlier measurements without other load."""
        if not self.is_open:
            return None
        side = SIDES[0]
        return self._best_of(self._known(side, side, self._numbers(), is_shared=False))

    def measure(self, size: tuple[int, int], most: int) -> int:
        """The best number for images of about a size, measured now unless known.

        Nothing else may run meanwhile. It takes about as long as a few runs.

        Args:
            size: height and width of the images.
            most: lanes that the memory allows.
        """
        numbers, is_shared = self._numbers(most), self._watch.is_shared()
        if numbers == (1,):
            return 1
        known = self._known(*_part(size, SIDES[0]), numbers, is_shared=is_shared)
        if not known:
            known = measured(self.backend, size, numbers, is_shared=is_shared)
            self.speeds.add(known)
        # Check the load again: it may have changed.
        self._watch = LoadWatch()
        return self._best_of(known) or 1

    def _best_of(self, known: list[Speed]) -> int | None:
        """The number of lanes of the fastest measurement; None without one."""
        if not known:
            return None
        self._chosen_by = known
        return best_of(known)

    def with_times(self, plan: Plan) -> Plan:
        """A plan with expected times, as far as measured."""
        known, threads = self.speeds.known, self.backend.max_lanes
        alone = seconds_of(plan, known, threads)
        beside = seconds_of(plan, known, threads, lanes=plan.lanes) if plan.lanes > 1 else None
        return replace(plan, seconds=alone, lane_seconds=beside)

    def _numbers(self, most: int | None = None) -> tuple[int, ...]:
        """Candidate numbers of lanes, the smallest first: up to one per thread."""
        threads = self.backend.max_lanes
        numbers = {1, threads, *(threads // part for part in (2, 4) if threads > part)}
        return tuple(sorted(n for n in numbers if most is None or n <= max(1, most)))

    def _known(
        self, height: int, width: int, numbers: Sequence[int], *, is_shared: bool
    ) -> list[Speed]:
        """The newest measurement of each number at about this size; empty unless all are known."""
        found: dict[int, Speed] = {}
        for speed in self.speeds.known:
            ratio = speed.pixels / (height * width)
            if (speed.threads, speed.is_shared) == (self.backend.max_lanes, is_shared) and (
                1 / SIMILAR <= ratio <= SIMILAR and speed.lanes in numbers
            ):
                found[speed.lanes] = speed
        return [*found.values()] if len(found) == len(numbers) else []

    @property
    def note(self) -> str | None:
        """The choice and its reason, in words."""
        if not self.is_open or self.backend.lanes == 1:
            return None
        by_lanes = {one.lanes: one for one in self._chosen_by}
        one, several = by_lanes.get(1), by_lanes.get(self.backend.lanes)
        if one is None or several is None:
            return None
        return (
            f"of several images {several.lanes} run at a time: "
            f"{one.seconds / several.seconds:.2f} times as many per second as one at a time, as "
            f"measured at {several.height}x{several.width}"
            f"{' beside other busy processes' if several.is_shared else ''}"
        )


def best_of(speeds: Sequence[Speed]) -> int:
    """The fastest number of lanes; one unless more justify their memory."""
    one = next(speed for speed in speeds if speed.lanes == 1)
    best = min(speeds, key=lambda speed: speed.seconds)
    return best.lanes if one.seconds >= MIN_GAIN * best.seconds else 1


def measured(
    backend: Backend, size: tuple[int, int], numbers: Sequence[int], *, is_shared: bool
) -> list[Speed]:
    """Measure the time per image with each number of lanes, in turn.

    Args:
        backend: a backend with a choice of lanes, used by this function only. Its number of lanes
            is restored.
        size: size of the expected images. For larger ones a part is measured.
        numbers: numbers of lanes.
        is_shared: whether other processes use the processors.
    """
    before = backend.lanes
    taken: dict[int, list[float]] = {number: [] for number in numbers}
    try:
        image = _image(backend, _part(size, SIDES[0]))
        if _seconds(backend, image, 1) > SLOW_S:
            image = _image(backend, _part(size, SIDES[1]))
        began, turns = time.perf_counter(), 0
        while turns < MIN_TURNS or time.perf_counter() - began < BUDGET_S:
            # Two turns each: a steady drift of the machine affects all alike.
            for number in reversed(numbers) if turns % 2 else numbers:
                taken[number].append(_seconds(backend, image, number))
            turns += 1
    finally:
        backend.use_lanes(before)
    height, width = image.shape[1:3] if backend.io == "image" else image.shape[2:]
    spinning = getattr(backend, "spinning", True)
    return [
        Speed(height, width, number, backend.max_lanes, is_shared, median(times), spinning)
        for number, times in taken.items()
    ]


def _seconds(backend: Backend, image: NDArray[Any], lanes: int) -> float:
    """Seconds per image of this many concurrent runs."""
    turn = Turn(is_alone=lanes == 1)
    if backend.lanes != lanes:
        backend.use_lanes(lanes)
        # The first run may open a session and take memory.
        backend.run_in_turn(image, turn)
    with ThreadPoolExecutor(lanes) as pool:
        began = time.perf_counter()
        for run in [pool.submit(backend.run_in_turn, image, turn) for _ in range(lanes)]:
            run.result()
        return (time.perf_counter() - began) / lanes


def _image(backend: Backend, sides: tuple[int, int]) -> NDArray[Any]:
    random = np.random.default_rng(0)
    if backend.io == "image":
        return random.integers(0, 256, (1, *sides, 3), np.uint8)
    return random.random((1, 3, *sides), np.float32)


def _part(size: tuple[int, int], most: int) -> tuple[int, int]:
    """Padded sides of an image, or of its part to measure."""
    padding = Padding(*(min(side, most) for side in size))
    return padding.padded_height, padding.padded_width
