"""Images of one size through one backend: planned, in turn, and again in less memory if need be."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, OutOfMemoryError, UsageError
from maxim_deploy.imaging import Padding, Rounding
from maxim_deploy.machine.forks import never_destroy
from maxim_deploy.machine.memory import resident_bytes
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.batching import (
    Network,
    Stack,
    images_from_stack,
    network_from_backend,
    restore_by_self_ensemble,
    restore_in_tiles,
    stack_from_images,
)
from maxim_deploy.runtime.cuda import DeviceArray
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.planning import Bounds, Planner
from maxim_deploy.runtime.turns import Turn, Turns
from maxim_deploy.spec.profiles import Shape

logger = logging.getLogger(__name__)

SMALLEST_RETRY = 128 * 128
"""Pixels of the smallest run that is tried after larger ones ran out of memory."""


CLOSED = "this Restorer is closed; load the bundle again"

FORKED = "CUDA does not survive a fork; load the bundle in the child process"


class Executor:
    """A backend, and who may use it when and with how much memory. Thread-safe.

    Args:
        backend: it belongs to this from now on.
        planner: for this backend.
        max_memory: bytes: of the whole process on a CPU, of a run on a GPU; None for what is free.
    """

    def __init__(self, backend: Backend, planner: Planner, max_memory: int | None) -> None:
        self._backend: Backend | None = backend
        self._planner = planner
        self._max_memory = max_memory
        self._turns = Turns()
        self._allow_lanes()
        self._why_closed = CLOSED
        self._max_pixels: int | None = None

    def require_open(self) -> Backend:
        """The backend. Raises BackendError if it is closed."""
        if self._backend is None:
            raise BackendError(self._why_closed)
        return self._backend

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Backend.notes`; none when it is closed."""
        return self._backend.notes if self._backend else ()

    @property
    def lanes(self) -> int:
        """As `Backend.lanes`; 1 when it is closed."""
        return self._backend.lanes if self._backend else 1

    def _allow_lanes(self) -> None:
        backend = self._backend
        if backend is not None:
            # A CPU's threads can all work on one picture; a GPU's lanes overlap with transfers.
            prefers_alone = backend.uses_host_memory and backend.lanes > 1
            self._turns.allow(backend.lanes, prefers_alone=prefers_alone)

    def choose_lanes(self, choose: Callable[[], int]) -> None:
        """Have as many runs at a time as `choose` says, which is called while nobody runs."""
        with self._turns.all():
            backend, lanes = self.require_open(), choose()
            if lanes != backend.lanes:
                backend.use_lanes(lanes)
                self._allow_lanes()

    def plan(self, height: int, width: int, self_ensemble: bool = False) -> Plan:
        """How an image of a size would be run now. Raises as `Restorer.plan`."""
        bounds = self._bounds(self_ensemble)
        plan = self._planned(height, width, bounds)
        largest_side = self._planner.largest_side(replace(bounds, max_pixels=None))
        return replace(plan, largest_side=largest_side)

    def has_room(
        self, size: int, height: int, width: int, self_ensemble: bool = False, runs: int = 1
    ) -> bool:
        """As `Restorer.has_room`."""
        if self._backend is None or not self._backend.uses_host_memory:
            return True
        try:
            plan = self._planned(height, width, self._bounds(self_ensemble))
        except UsageError:  # the run itself says why
            return False
        return plan.limit is None or runs * plan.bytes + size <= plan.limit

    def restore(
        self, images: Sequence[NDArray[Any]], rounding: Rounding, self_ensemble: bool
    ) -> list[NDArray[Any]]:
        """Restore images that are one group of `group_by_size`, checked before.

        Raises:
            ImageTooLargeError: there is not enough memory for them.
            BackendError: the backend failed, or is closed.
        """
        restored: list[NDArray[Any]] = []
        while rest := images[len(restored) :]:
            restored += self._restored(rest, rounding, self_ensemble)
        return restored

    def _restored(
        self, images: Sequence[NDArray[Any]], rounding: Rounding, self_ensemble: bool
    ) -> list[NDArray[Any]]:
        """The first of the images; none if there was not enough memory."""
        height, width, _ = images[0].shape
        # Planned in turn: while another is running, what it takes would count as taken and held.
        with self._turns.one() as turn:
            plan = self._plan_to_run(height, width, self_ensemble, len(images))
            some = images[: plan.images]
            try:
                finish = self._run(plan, some, rounding, self_ensemble, turn)
            except OutOfMemoryError as error:
                self._go_smaller(plan, self_ensemble, error)
                return []
        # Outside the turn: cropping and rounding need no network, so the next caller runs.
        return finish()

    def run_on_device(self, image: Any, out: Any = None) -> DeviceArray:
        """Device memory in and out, whole and as it is: nothing is padded, clipped or rounded.

        Args:
            image: an array as `Backend.device_array` takes it.
            out: another to write to, or None.

        Raises:
            UsageError: this is no backend on a GPU, or it cannot take an array.
            BackendError: the backend failed, or is closed.
        """
        taken = self.require_open().device_array(image)
        target = None if out is None else self.require_open().device_array(out)
        with self._turns.one():
            return self.require_open().run_on_device(taken, target)

    def close(self) -> None:
        """Wait for those whose turn it is and give all memory back."""
        # With every turn taken, no run is in the backend as it closes. Later callers find None.
        with self._turns.all():
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def after_fork(self) -> None:
        """In a child nobody has a turn: the threads that had one are the parent's."""
        self._turns = Turns()
        self._allow_lanes()
        if self._backend is None:
            return
        if self._backend.uses_host_memory:
            self._backend.after_fork()
        else:
            never_destroy(self._backend)
            self._backend, self._why_closed = None, FORKED

    def _bounds(self, self_ensemble: bool = False) -> Bounds:
        """Of a run.

        On a CPU what the process does not have yet, and what the backend keeps from earlier runs:
        the next run uses that again, or the second image would be tiled where the first was not.
        """
        backend = self.require_open()
        if self._max_memory is None:
            return Bounds(backend.free_bytes(), self._max_pixels, self_ensemble)
        # What is held is not counted as used: the next run takes the same blocks again.
        used = resident_bytes() - backend.held_bytes() if backend.uses_host_memory else 0
        return Bounds(self._max_memory - used, self._max_pixels, self_ensemble, used, True)

    def _plan_to_run(self, height: int, width: int, self_ensemble: bool, images: int) -> Plan:
        """The plan for images now. What earlier runs have left is given back before tiles are.

        More may have been left than is known, so that equal images would be run whole and then in
        tiles; and tiles, which are smaller runs, would not replace it and have their image on top.
        """
        backend = self.require_open()
        plan = None
        if backend.held_bytes():
            with contextlib.suppress(UsageError):
                plan = self._planned(height, width, self._bounds(self_ensemble), images)
                if plan.tile is None or self._planner.tile != "auto":  # not for the memory
                    return plan
            backend.release()
        try:
            return self._planned(height, width, self._bounds(self_ensemble), images)
        except UsageError:
            if plan is None:
                raise
            # Another run has taken the memory that was given back, so the first plan is the best.
            return plan

    def _run(
        self,
        plan: Plan,
        images: Sequence[NDArray[Any]],
        rounding: Rounding,
        self_ensemble: bool,
        turn: Turn,
    ) -> Callable[[], list[NDArray[Any]]]:
        """The network's work; what it returns does the rest, for which nobody need wait."""
        backend = self.require_open()
        if plan.tile is None and backend.io == "image":
            pixels = np.stack(images) if len(images) > 1 else np.ascontiguousarray(images[0][None])
            restored = backend.run_in_turn(pixels, turn)
            return lambda: list(restored)
        stack = stack_from_images(images, plan.padded)
        network = network_from_backend(backend, turn)
        if plan.tile and plan.tiles > 1:
            network = self._tiled(network, plan, plan.tile)
        stack = (
            restore_by_self_ensemble(network, stack, (-2, -1)) if self_ensemble else network(stack)
        )
        return lambda: images_from_stack(stack, images, rounding)

    def _tiled(self, network: Network, plan: Plan, tile: tuple[int, int]) -> Network:
        """The network on tiles; of an image that lies on its side, so do the tiles."""

        def run(stack: Stack) -> Stack:
            height, width = stack.shape[2:]
            sides = tile if (height, width) == plan.padded else tile[::-1]
            tiling = self._planner.tiling(height, width, sides)
            return restore_in_tiles(network, stack, tiling, plan.batch)

        return run

    def _planned(self, height: int, width: int, bounds: Bounds, images: int = 1) -> Plan:
        try:
            return self._planner.plan(height, width, bounds, images)
        except UsageError:
            if bounds.max_pixels is None:
                raise
        # Smaller images left too little for this one: as if nothing had been.
        self._max_pixels = None
        return self._planner.plan(height, width, replace(bounds, max_pixels=None), images)

    def _go_smaller(self, plan: Plan, self_ensemble: bool, error: OutOfMemoryError) -> None:
        """After running out of memory at most half the padded pixels in a run; said once.

        Fewer than this plan had, or one image: no plan comes back.
        """
        # Halved rather than planned anew: the allocation that failed has shown our figures wrong.
        one = Shape(1, *(plan.tile or plan.padded)).pixels
        pixels = plan.batch * one
        max_pixels = max(pixels // 2, one if plan.batch > 1 else 0)
        if plan.batch == 1:
            advice = f"{error} | leave tile at 'auto', or choose smaller tiles"
            if self._planner.tile != "auto" or max_pixels < SMALLEST_RETRY:
                raise BackendError(advice) from error
            try:
                self._planner.plan(plan.height, plan.width, Bounds(None, max_pixels, self_ensemble))
            except UsageError:  # the engine has no smaller ones
                raise BackendError(advice) from error
        if self._max_pixels is None:
            how = "in tiles" if plan.batch == 1 else "with fewer at a time"
            logger.warning("out of memory at %dx%d; going on %s", plan.height, plan.width, how)
        self._max_pixels = min(self._max_pixels or pixels, max_pixels)


def group_by_size(images: Iterable[NDArray[Any]], io: str) -> list[list[int]]:
    """Which images can be in one run: those of one padded size; in the image form, of one size."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(images):
        height, width, _ = image.shape
        if io == "tensor":
            padding = Padding(height, width)
            height, width = padding.padded_height, padding.padded_width
        groups.setdefault((height, width), []).append(index)
    return [groups[size] for size in sorted(groups)]
