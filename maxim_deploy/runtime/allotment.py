"""Allot memory to the runs of a backend."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import replace

from maxim_deploy.errors import BackendError, ImageTooLargeError, OutOfMemoryError, UsageError
from maxim_deploy.machine.memory import resident_bytes
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.planning import Bounds, Planner
from maxim_deploy.runtime.turns import Turn
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.quantities import readable_bytes

logger = logging.getLogger(__name__)

SMALLEST_RETRY = 128 * 128
"""Pixels of the smallest run that is tried after larger runs ran out of memory."""


class Allotment:
    """Plans runs within the available memory and tracks the current ones. Thread-safe.

    While runs are active, the process's memory does not show what each one takes. So limits are
    determined while nothing runs, and each run reserves the memory of its plan. A plan does not
    depend on concurrent runs: it starts when it fits.

    Args:
        backend: the backend.
        planner: plans runs of this backend.
        max_memory: bytes: of the whole process on a CPU, of a run on a GPU; None for the free
            memory.
    """

    def __init__(self, backend: Backend, planner: Planner, max_memory: int | None) -> None:
        self._backend, self._planner, self._max_memory = backend, planner, max_memory
        self._max_pixels: int | None = None
        self._idle = Bounds()
        self.forget_runs()

    def forget_runs(self) -> None:
        """Forget all runs, in a forked child."""
        self._lock = threading.Lock()
        self._reserved: dict[Turn, int] = {}

    def plan(self, height: int, width: int, self_ensemble: bool = False) -> Plan:
        """The plan for an image of a size now. Raises as `Restorer.plan`."""
        bounds = self._bounds(self_ensemble)
        plan = self._planned(height, width, bounds)
        largest_side = self._planner.largest_side(replace(bounds, max_pixels=None))
        return replace(plan, largest_side=largest_side)

    def has_room(
        self, size: int, height: int, width: int, self_ensemble: bool = False, runs: int = 1
    ) -> bool:
        """Whether `size` bytes are free beside a run; see `Restorer.has_room`."""
        if not self._backend.uses_host_memory:
            return True
        try:
            plan = self._planned(height, width, self._bounds(self_ensemble))
        except UsageError:  # the run itself will raise the error
            return False
        return plan.limit is None or runs * plan.bytes + size <= plan.limit

    def plan_in_turn(
        self, turn: Turn, height: int, width: int, self_ensemble: bool, images: int
    ) -> Plan | None:
        """Plan images now, and reserve the memory until `release`.

        Returns:
            None if it does not fit beside the current runs: it must wait until none is active.

        Raises:
            ImageTooLargeError, UsageError: as `Planner.plan`.
        """
        with self._lock:
            if self._backend.uses_host_memory and self._reserved:
                bounds = replace(
                    self._idle, max_pixels=self._max_pixels, self_ensemble=self_ensemble
                )
                plan = self._planned(height, width, bounds, images)
            else:
                self._idle = self._bounds(self_ensemble)
                plan = self._plan_after_others(height, width, self_ensemble, images)
            return plan if self._reserve(turn, plan) else None

    def reserve(self, turn: Turn, plan: Plan) -> bool:
        """Reserve the memory of a plan again after `release`; False if it does not fit now."""
        with self._lock:
            return self._reserve(turn, plan)

    def widen(self, turn: Turn, plan: Plan, runs: int) -> bool:
        """Reserve the memory of several concurrent runs of a plan; False if it does not fit now.

        A single run is always granted.
        """
        with self._lock:
            others = sum(size for one, size in self._reserved.items() if one is not turn)
            limit, size = self._idle.max_bytes, runs * plan.bytes
            fits = runs == 1 or limit is None or size + others <= limit
            self._reserved[turn] = size if fits else plan.bytes
            return fits

    def check_on_device(self, dims: tuple[int, ...]) -> None:
        """Raise an error for a device array whose run would exceed `max_memory`.

        Raises:
            ImageTooLargeError: it would exceed it.
        """
        if self._max_memory is None:
            return
        size = self._backend.bytes_for(Shape.from_dims(dims, self._backend.io))
        if size > self._max_memory:
            raise ImageTooLargeError(
                f"array of {'x'.join(map(str, dims))} | takes {readable_bytes(size)} | max_memory "
                f"is {readable_bytes(self._max_memory)} | raise max_memory, or pass a smaller "
                "array"
            )

    def release(self, turn: Turn) -> None:
        """Release the memory of a turn that runs nothing now. Its arrays count for the process."""
        with self._lock:
            self._reserved.pop(turn, None)

    def go_smaller(self, plan: Plan, self_ensemble: bool, error: OutOfMemoryError) -> None:
        """After an out-of-memory error, halve the padded pixels of a run. Logged once.

        Later plans have fewer pixels than this one, so no plan repeats.

        Raises:
            BackendError: no smaller run is possible.
        """
        # Halved rather than planned again: the failed allocation has shown that our figures are
        # wrong.
        one = Shape(1, *(plan.tile or plan.padded)).pixels
        pixels = plan.batch * one
        max_pixels = max(pixels // 2, one if plan.batch > 1 else 0)
        if plan.batch == 1:
            advice = f"{error} | leave tile at 'auto', or choose smaller tiles"
            if self._planner.tile != "auto" or max_pixels < SMALLEST_RETRY:
                raise BackendError(advice) from error
            try:
                self._planner.plan(plan.height, plan.width, Bounds(None, max_pixels, self_ensemble))
            except UsageError:  # the engine has no smaller profile
                raise BackendError(advice) from error
        if self._max_pixels is None:
            how = "in tiles" if plan.batch == 1 else "with fewer images at a time"
            logger.warning("out of memory at %dx%d; continuing %s", plan.height, plan.width, how)
        self._max_pixels = min(self._max_pixels or pixels, max_pixels)

    def _reserve(self, turn: Turn, plan: Plan) -> bool:
        """A plan always fits alone, because it was made for the available memory."""
        others = sum(self._reserved.values())
        if self._backend.uses_host_memory and others:
            limit = self._idle.max_bytes
            if limit is not None and plan.bytes + others > limit:
                return False
        self._reserved[turn] = plan.bytes
        return True

    def _bounds(self, self_ensemble: bool = False) -> Bounds:
        """Memory for a run, determined while nothing runs.

        On a CPU it includes memory that the backend keeps from earlier runs, because the next run
        uses it again. Otherwise the second image would run in tiles where the first did not.
        """
        backend = self._backend
        if self._max_memory is None:
            return Bounds(backend.free_bytes(), self._max_pixels, self_ensemble)
        # Held memory does not count as used: the next run takes the same blocks.
        used = resident_bytes() - backend.held_bytes() if backend.uses_host_memory else 0
        return Bounds(self._max_memory - used, self._max_pixels, self_ensemble, used, True)

    def _plan_after_others(self, height: int, width: int, self_ensemble: bool, images: int) -> Plan:
        """Plan images now. Memory of earlier runs is freed before tiles are chosen.

        More memory may be held than known. Then equal images would first run whole and later in
        tiles. Tiles are smaller runs, which would not reuse that memory, and their image would come
        on top. A GPU's backends know exactly what they hold.
        """
        plan = None
        if self._backend.uses_host_memory and self._backend.held_bytes():
            with contextlib.suppress(UsageError):
                plan = self._planned(height, width, self._idle, images)
                if plan.tile is None or self._planner.tile != "auto":  # memory is not the reason
                    return plan
            self._backend.release()
            self._idle = self._bounds(self_ensemble)
        try:
            return self._planned(height, width, self._idle, images)
        except UsageError:
            if plan is None:
                raise
            # Another run has taken the freed memory, so the first plan is the best.
            return plan

    def _planned(self, height: int, width: int, bounds: Bounds, images: int = 1) -> Plan:
        try:
            return self._planner.plan(height, width, bounds, images)
        except UsageError:
            if bounds.max_pixels is None:
                raise
        # Earlier, smaller images left too little, so forget them.
        self._max_pixels = None
        return self._planner.plan(height, width, replace(bounds, max_pixels=None), images)
