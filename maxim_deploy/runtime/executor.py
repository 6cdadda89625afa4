"""Images of one size through one backend: in turn, planned, and again in less memory if need be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.imaging import Padding, Rounding
from maxim_deploy.machine.forks import never_destroy
from maxim_deploy.machine.memory import trim
from maxim_deploy.runtime.allotment import Allotment
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.batching import (
    ORIENTATIONS,
    Network,
    Run,
    Stack,
    images_from_stack,
    network_from_run,
    restore_by_self_ensemble,
    restore_in_tiles,
    stack_from_images,
)
from maxim_deploy.runtime.cuda import DeviceArray
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.planning import Planner
from maxim_deploy.runtime.progress import RunProgress
from maxim_deploy.runtime.restoration import Deferred
from maxim_deploy.runtime.turns import LARGE_PIXELS, Policy, Stop, Turn, Turns

CLOSED = "this Restorer is closed; load the bundle again"

FORKED = "CUDA does not survive a fork; load the bundle in the child process"


@dataclass(frozen=True)
class Call:
    """What a caller wants, besides the images.

    Attributes:
        rounding: of integers.
        self_ensemble: whether images run in eight orientations.
        stop: ends it early.
        progress: told of each run, in the thread that runs it; its exceptions end the call.
        defers: raise `Deferred` rather than wait for another picture of many runs.
    """

    rounding: Rounding = "nearest"
    self_ensemble: bool = False
    stop: Stop = field(default_factory=Stop)
    progress: Callable[[RunProgress], object] | None = None
    defers: bool = False


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
        self._memory = Allotment(backend, planner, max_memory)
        self._why_closed = CLOSED
        self._begin_turns()

    def _begin_turns(self) -> None:
        self._turns = Turns()
        self._allow_lanes()
        # One picture of many runs at a time: each keeps its blend in memory while others run.
        self._long_turns = Turns()

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
        if backend is None:
            return
        policy = Policy(
            backend.lanes,
            # A CPU's threads can all work on one picture; a GPU's lanes overlap with transfers.
            prefers_alone=backend.uses_host_memory and backend.lanes > 1,
            lets_pass=backend.lets_pass,
        )
        self._turns.follow(policy)

    def choose_lanes(self, choose: Callable[[], int]) -> None:
        """Have as many runs at a time as `choose` says, which is called while nobody runs."""
        with self._turns.all():
            backend, lanes = self.require_open(), choose()
            if lanes != backend.lanes:
                backend.use_lanes(lanes)
                self._allow_lanes()

    def plan(self, height: int, width: int, self_ensemble: bool = False) -> Plan:
        """How an image of a size would be run now. Raises as `Restorer.plan`."""
        self.require_open()
        return self._memory.plan(height, width, self_ensemble)

    def has_room(
        self, size: int, height: int, width: int, self_ensemble: bool = False, runs: int = 1
    ) -> bool:
        """As `Restorer.has_room`."""
        if self._backend is None:
            return True
        return self._memory.has_room(size, height, width, self_ensemble, runs)

    def restore(self, images: Sequence[NDArray[Any]], call: Call) -> list[NDArray[Any]]:
        """Restore images that are one group of `group_by_size`, checked before.

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
        """The first of the images; none if there was not enough memory."""
        height, width, _ = images[0].shape
        padding = Padding(height, width)
        pixels = len(images) * padding.padded_height * padding.padded_width
        only = is_long = False
        while True:
            with ExitStack() as held:
                if is_long:
                    held.enter_context(self._long_turns.one(call.stop))
                turn = held.enter_context(self._turns.one(call.stop, pixels, only=only))
                self.require_open()
                plan = self._memory.plan_in_turn(
                    turn, height, width, call.self_ensemble, len(images)
                )
                if plan is None:
                    only = True
                    continue
                held.callback(self._memory.release, turn)
                if not is_long and _is_long(plan, call):
                    if call.defers:
                        raise Deferred
                    is_long = True
                    continue
                turn.pixels = _run_pixels(plan)
                try:
                    finish = self._run(plan, images[: plan.images], call, turn)
                except OutOfMemoryError as error:
                    self._memory.go_smaller(plan, call.self_ensemble, error)
                    return []
            # Outside the turn: cropping and rounding need no network, so the next caller runs.
            return finish()

    def run_on_device(self, image: Any, out: Any, call: Call) -> DeviceArray:
        """Device memory in and out, whole and as it is: nothing is padded, clipped or rounded.

        Args:
            image: an array as `Backend.device_array` takes it.
            out: another to write to, or None.
            call: of which only `stop` has a meaning here.

        Raises:
            UsageError: this is no backend on a GPU, or it cannot take an array.
            BackendError: the backend failed, or is closed.
        """
        taken = self.require_open().device_array(image)
        target = None if out is None else self.require_open().device_array(out)
        with self._turns.one(call.stop):
            return self.require_open().run_on_device(taken, target)

    def trim(self) -> None:
        """As `Restorer.trim`."""
        self.require_open().release()
        trim()

    def close(self) -> None:
        """Wait for those whose turn it is and give all memory back."""
        # With every turn taken, no run is in the backend as it closes. Later callers find None.
        with self._turns.all():
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def after_fork(self) -> None:
        """In a child nobody has a turn: the threads that had one are the parent's."""
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
        """The network's work; what it returns does the rest, for which nobody need wait."""
        backend, run = self.require_open(), self._runs(plan, call, turn)
        if plan.tile is None and backend.io == "image":
            pixels = np.stack(images) if len(images) > 1 else np.ascontiguousarray(images[0][None])
            restored = run(pixels)
            return lambda: list(restored)
        stack = stack_from_images(images, plan.padded)
        network = network_from_run(run, backend.io)
        if plan.tile and plan.tiles > 1:
            network = self._tiled(network, plan, plan.tile)
        stack = (
            restore_by_self_ensemble(network, stack, (-2, -1))
            if call.self_ensemble
            else network(stack)
        )
        return lambda: images_from_stack(stack, images, call.rounding)

    def _runs(self, plan: Plan, call: Call, turn: Turn) -> Run:
        """Runs the network, each time for one call; between two runs others have their turn."""
        backend, is_long = self.require_open(), _is_long(plan, call)
        done, total = 0, _runs_in(plan, call)

        def run(image: NDArray[Any]) -> NDArray[Any]:
            nonlocal done
            if done and is_long:
                self._make_way(turn, plan)
            restored = backend.run_in_turn(image, turn)
            done += 1
            if call.progress:
                call.progress(RunProgress(done, total))
            return restored

        return run

    def _make_way(self, turn: Turn, plan: Plan) -> None:
        """Between two runs: let those run who wait. What the call holds is in what they plan with.

        Raises:
            BaseException: the reason of the turn's `stop`.
        """
        if not self._turns.share(turn):
            return
        self._memory.release(turn)
        self._turns.again(turn)
        if not self._memory.reserve(turn, plan):
            # Beside others there is no room for what was planned alone.
            self._turns.again(turn, only=True)
            self._memory.reserve(turn, plan)

    def _tiled(self, network: Network, plan: Plan, tile: tuple[int, int]) -> Network:
        """The network on tiles; of an image that lies on its side, so do the tiles."""

        def run(stack: Stack) -> Stack:
            height, width = stack.shape[2:]
            sides = tile if (height, width) == plan.padded else tile[::-1]
            tiling = self._planner.tiling(height, width, sides)
            return restore_in_tiles(network, stack, tiling, plan.batch)

        return run


def _runs_in(plan: Plan, call: Call) -> int:
    runs = -(-plan.tiles // plan.batch) if plan.tiles > 1 else 1
    return runs * (ORIENTATIONS if call.self_ensemble else 1)


def _run_pixels(plan: Plan) -> int:
    height, width = plan.tile or plan.padded
    return plan.batch * height * width


def _is_long(plan: Plan, call: Call) -> bool:
    """Whether nobody should wait for all of its runs."""
    runs = _runs_in(plan, call)
    return runs > 1 and runs * _run_pixels(plan) > LARGE_PIXELS


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
