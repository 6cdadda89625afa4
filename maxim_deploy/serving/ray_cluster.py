"""A Ray cluster as this package sees it: being part of it, its room, actors and lost ones."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.serving.ray_signals import (
    children_without_signals,
    kill_at_shutdown,
    own_signal_handlers,
)

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster that is started here: paths and results are never put into it."""

CONNECT_S = 10.0
"""For the head node to accept a connection."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerNeeds:
    """What each worker takes of a node.

    Attributes:
        cpus: processors.
        gpus: GPUs, or a fraction of one.
    """

    cpus: int
    gpus: float

    def fit_into(self, resources: dict[str, float]) -> int:
        """How many workers a node with such resources has room for."""
        by_cpus = int(resources.get("CPU", 0) // self.cpus)
        if not self.gpus:
            return by_cpus
        # Ray never gives one worker parts of two GPUs.
        return min(by_cpus, int(resources.get("GPU", 0)) * int(1 // self.gpus))

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{gpus}"


class RayCluster:
    """A cluster that this process is connected to.

    Args:
        ray: the module.
        needs: of each worker.
    """

    def __init__(self, ray: ModuleType, needs: WorkerNeeds) -> None:
        self._ray, self._needs = ray, needs
        self._kinds: dict[type, Any] = {}

    def room(self) -> int:
        """How many workers all nodes together have room for, if nothing else runs there."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(map(self._needs.fit_into, nodes))

    def describe_room(self) -> str:
        """What a worker takes, and what the cluster has."""
        free, all_of = self._ray.available_resources(), self._ray.cluster_resources()
        has = ", ".join(
            f"{free.get(kind, 0):g} of {all_of[kind]:g} {kind} free"
            for kind in ("CPU", "GPU")
            if kind in all_of
        )
        return f"each takes {self._needs} of one node, and the cluster has {has}"

    def actor(self, kind: type, calls: int, *arguments: Any) -> Any:
        """An actor that takes so many calls at a time; it lives where there is room for it."""
        # Ray sends a class to the head node once, and waits there: no later actor waits for that.
        if kind not in self._kinds:
            self._kinds[kind] = self._ray.remote(kind)
        remote = self._kinds[kind].options(
            num_cpus=self._needs.cpus,
            num_gpus=self._needs.gpus,
            max_concurrency=calls,
            # A new one takes the place of a lost one: then every call has one worker, or none.
            max_restarts=0,
            max_task_retries=0,
        )
        return remote.remote(*arguments)

    def end(self, handle: Any) -> None:
        """End an actor at once, or before it has begun."""
        self._ray.kill(handle)

    def check_is_there(self) -> None:
        """Refuse to go on without the head node; Ray would wait a minute and end this process.

        Raises:
            BackendError: nothing listens where the head node was.
        """
        address = self._ray.get_runtime_context().gcs_address
        try:
            _check_reachable(address)
        except ConnectionError as error:
            raise BackendError(
                f"Ray at {address!r} | the head node of the cluster is lost: {error} | run the "
                "command again with --resume"
            ) from error

    def is_loss(self, error: BaseException) -> bool:
        """Whether an error says that a worker, its node or its answer is gone.

        Otherwise the worker's code has raised it.
        """
        errors = self._ray.exceptions
        return isinstance(error, errors.RayError) and not isinstance(error, errors.RayTaskError)


@contextmanager
def connected(address: str, needs: WorkerNeeds) -> Iterator[RayCluster]:
    """Take part in a cluster during the block; Ray that an application has begun goes on.

    Args:
        address: as `RayWorkers` takes it.
        needs: of each worker.

    Raises:
        BackendError: there is no such cluster, or it has another version of Ray or Python.
        UsageError: this machine alone has no room for a worker.
    """
    ray = require("ray", "ray")
    if ray.is_initialized():
        yield RayCluster(ray, needs)
        return
    try:
        is_started_here = _connect(ray, address)
        cluster = RayCluster(ray, needs)
        if is_started_here and not cluster.room():
            raise UsageError(
                f"Ray on this machine | has no room for a worker | {cluster.describe_room()}"
            )
        yield cluster
    finally:
        kill_at_shutdown()  # of a cluster that was started here, also in part
        ray.shutdown()


def _connect(ray: ModuleType, address: str) -> bool:
    """Whether a cluster of this machine alone was started for it."""
    # Ray's own lines, and those of workers on stdout, would be among the results.
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    # Whatever `log_to_driver` is, Ray prints to stdout which workers were lost. This is the switch
    # of Ray's own debugger; there is no public one.
    printing: Any = require("ray._private.worker", "ray")
    printing._worker_logs_enabled = False
    address = _meant(address)
    # To Ray the variable comes before any argument.
    with _without_variable("RAY_ADDRESS"):
        if address == "local":
            # Ray runs workers at a niceness of 15: other processes would have all processors.
            os.environ.setdefault("RAY_worker_niceness", "0")
            # In this order: what came meanwhile gets to our handlers.
            with children_without_signals(), own_signal_handlers():
                ray.init(
                    "local",
                    num_cpus=usable_processors(),
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    **quiet,
                )
            return True
        try:
            _check_reachable(address)
            with own_signal_handlers():
                ray.init(address, **quiet)
        except ConnectionError as error:
            advice = "" if "RAY_AUTH_MODE" in os.environ else f" | {_ADVICE}"
            raise BackendError(
                f"Ray at {address!r} | cannot be reached: {error}{advice}"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"Ray at {address!r} | {error}") from error
    logger.info("connected to Ray at %s", ray.get_runtime_context().gcs_address)
    return False


def _meant(address: str) -> str:
    """What "auto" stands for: the variable, the cluster of this machine, or this machine alone."""
    if address != "auto":
        return address
    if named := os.environ.get("RAY_ADDRESS"):
        return named
    if _is_in_a_cluster():
        return "auto"
    logger.warning(
        "no Ray cluster of this machine was found: this machine alone restores the files | "
        "name one with --ray HOST:PORT, or say so with --ray local"
    )
    return "local"


@contextmanager
def _without_variable(name: str) -> Iterator[None]:
    kept = os.environ.pop(name, None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ[name] = kept


def _is_in_a_cluster() -> bool:
    """Whether `ray start` was called on this machine, for a cluster that is there.

    Ray's own "auto" would also take a cluster that another command has started for itself.
    """
    found = require("ray._private.services", "ray").find_bootstrap_address(None)
    try:
        _check_reachable(found or "")
    except ConnectionError:  # the file of a cluster that was killed
        return False
    return bool(found)


_ADVICE = "if the cluster has a token, set RAY_AUTH_MODE=token"


def _check_reachable(address: str) -> None:
    """Refuse at once what Ray would try to reach for minutes.

    Raises:
        ConnectionError: nothing listens at this HOST:PORT.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(str(error)) from error
