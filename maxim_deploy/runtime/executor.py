"""Run images of one size on a backend: in turns, planned, and retried with less memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.imaging import Padding
from maxim_deploy.machine.forks import never_destroy
from maxim_deploy.machine.memory import trim
from maxim_deploy.runtime.allotment import Allotment
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.batching import (
    Network,
    Stack,
    images_from_stack,
    networks_from_runs,
    restore_by_self_ensemble,
    restore_in_tiles,
    stack_from_images,
)
from maxim_deploy.runtime.call import Call
from maxim_deploy.runtime.cuda import DeviceArray
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.planning import Planner
from maxim_deploy.runtime.restoration import Deferred
from maxim_deploy.runtime.runs import Runs, is_long, run_pixels
from maxim_deploy.runtime.turns import Policy, Turn, Turns

CLOSED = "this Restorer is closed; load the bundle again"

FORKED = "CUDA does not survive a fork; load the bundle in the child process"


class Executor:
    """A backend with its turns and memory. Thread-safe.

    Args:
        backend: the backend, which this object owns from now on.
        planner: plans runs of this backend.
        max_memory: bytes: of the whole process on a CPU, of a run on a GPU; None for the free
            memory.
    """

    def __init__(self, backend: Backend, planner: Planner, max_memory: int | None) -> None:
        self._backend: Backend | None = backend
        self._planner = planner
        self._memory = Allotment(backend, planner, max_memory)
        self._why_closed = CLOSED
        self._begin_turns()

    def _begin_turns(self) -> None:
        self._turns = Turns()
        self._allow_lanes()
        # Only one picture of many runs at a time: it keeps its blend in memory while others run.
        self._long_turns = Turns()

    def require_open(self) -> Backend:
        """The backend. Raises BackendError if it is closed."""
        if self._backend is None:
            raise BackendError(self._why_closed)
        return self._backend

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of the backend on how it runs, in words; empty when it is closed."""
        return self._backend.notes if self._backend else ()

    @property
    def lanes(self) -> int:
        """Runs that the backend takes at a time; 1 when it is closed."""
        return self._backend.lanes if self._backend else 1

    def _allow_lanes(self) -> None:
        backend = self._backend
        if backend is None:
            return
        policy = Policy(
            backend.lanes,
            # On a CPU all threads can work on one picture. On a GPU lanes overlap with transfers.
            prefers_alone=backend.uses_host_memory and backend.lanes > 1,
            lets_pass=backend.lets_pass,
        )
        self._turns.follow(policy)

    def choose_lanes(self, choose: Callable[[], int]) -> None:
        """Set the number of concurrent runs to that of `choose`, called while nothing runs."""
        with self._turns.all():
            backend, lanes = self.require_open(), choose()
            if lanes != backend.lanes:
                backend.use_lanes(lanes)
                self._allow_lanes()

    def plan(self, height: int, width: int, self_ensemble: bool = False) -> Plan:
        """The plan for an image of a size now. Raises as `Restorer.plan`."""
        self.require_open()
        return self._memory.plan(height, width, self_ensemble)

    def has_room(
        self, size: int, height: int, width: int, self_ensemble: bool = False, runs: int = 1
    ) -> bool:
        """Whether `size` bytes are free beside a run; see `Restorer.has_room`."""
        if self._backend is None:
            return True
        return self._memory.has_room(size, height, width, self_ensemble, runs)

    def restore(self, images: Sequence[NDArray[Any]], call: Call) -> list[NDArray[Any]]:
        """Restore a checked group of images that can share a run.

        Raises:
            ImageTooLargeError: there is not enough memory for them.
            BackendError: the backend failed, or is closed.
            BaseException: the reason of `call.stop`, or what `call.progress` raised.
        """
        restored: list[NDArray[Any]] = []
        while rest := images[len(restored) :]:
            restored += self._restored(rest, call)
        return restored

    def _restored(self, images: Sequence[NDArray[Any]], call: Call) -> list[NDArray[Any]]:
        """Restore the first images; none if there was not enough memory."""
        height, width, _ = images[0].shape
        padding = Padding(height, width)
        pixels = len(images) * padding.padded_height * padding.padded_width
        only = is_many = False
        while True:
            with ExitStack() as held:
                if is_many:
                    held.enter_context(self._long_turns.one(call.stop))
                turn = held.enter_context(
                    self._turns.one(call.stop, pixels, only=only, shares=call.shares)
                )
                self.require_open()
                plan = self._memory.plan_in_turn(
                    turn, height, width, call.self_ensemble, len(images)
                )
                if plan is None:
                    only = True
                    continue
                held.callback(self._memory.release, turn)
                if not is_many and is_long(plan, call.self_ensemble):
                    if call.defers:
                        raise Deferred
                    is_many = True
                    continue
                turn.pixels = run_pixels(plan)
                try:
                    finish = self._run(plan, images[: plan.images], call, turn)
                except OutOfMemoryError as error:
                    self._memory.go_smaller(plan, call.self_ensemble, error)
                    return []
            # Outside the turn: cropping and rounding need no network, so the next caller can run.
            return finish()

    def run_on_device(self, image: Any, out: Any, call: Call) -> DeviceArray:
        """Run an array in device memory whole, without padding, clipping or rounding.

        Args:
            image: an array for `Backend.device_array`.
            out: an array for the result, or None.
            call: options of the call. Only `stop` applies here.

        Raises:
            ImageTooLargeError: the run would take more than `max_memory`.
            UsageError: the backend is not on a GPU, or cannot read an array.
            BackendError: the backend failed, or is closed.
        """
        taken = self.require_open().device_array(image)
        self._memory.check_on_device(taken.shape)
        target = None if out is None else self.require_open().device_array(out)
        with self._turns.one(call.stop):
            return self.require_open().run_on_device(taken, target)

    def trim(self) -> None:
        """Free the memory kept from earlier runs. Raises BackendError when it is closed."""
        self.require_open().release()
        trim()

    def close(self) -> None:
        """Wait for current turns, and free all memory."""
        # With every turn taken, the backend closes without runs. Later callers find None.
        with self._turns.all():
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def after_fork(self) -> None:
        """Clear all turns in a forked child: their threads belong to the parent."""
        self._begin_turns()
        self._memory.forget_runs()
        if self._backend is None:
            return
        if self._backend.uses_host_memory:
            self._backend.after_fork()
        else:
            never_destroy(self._backend)
            self._backend, self._why_closed = None, FORKED

    def _run(
        self, plan: Plan, images: Sequence[NDArray[Any]], call: Call, turn: Turn
    ) -> Callable[[], list[NDArray[Any]]]:
        """Run the network. Returns a function for the remaining work, which needs no turn."""
        backend = self.require_open()
        runs = Runs(backend, plan, call, turn, self._turns, self._memory)
        if plan.tile is None and backend.io == "image":
            pixels = np.stack(images) if len(images) > 1 else np.ascontiguousarray(images[0][None])
            (restored,) = runs.several([pixels])
            return lambda: list(restored)
        stack = stack_from_images(images, plan.padded)
        network = self._network(runs, plan)
        stack = (
            restore_by_self_ensemble(network, stack, (-2, -1))
            if call.self_ensemble
            else network(stack)
        )
        return lambda: images_from_stack(stack, images, call.rounding)

    def _network(self, runs: Runs, plan: Plan) -> Network:
        """Run the network by a plan. If the image lies on its side, so do the tiles."""
        networks, tile = networks_from_runs(runs.several, self.require_open().io), plan.tile
        if tile is None or plan.tiles == 1:

            def whole(stack: Stack) -> Stack:
                runs.width()
                return networks([stack])[0]

            return whole

        def tiled(stack: Stack) -> Stack:
            height, width = stack.shape[2:]
            sides = tile if (height, width) == plan.padded else tile[::-1]
            tiling = self._planner.tiling(height, width, sides)
            return restore_in_tiles(networks, stack, tiling, plan.batch, runs.width)

        return tiled
