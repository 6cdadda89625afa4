"""A stand-in for Ray: actors are threads of this process, and can be killed from inside."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class ActorDiedError(RayError):
    pass


class FakeRay:
    """As much of the module `ray` as is used, with one node that has room for some actors."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, room: int = 2) -> None:
        self.free = room
        self.room = room
        self.found: str | None = None
        self.addresses: list[str] = []
        self.gcs_address = "here"
        self.exported: list[Callable[..., Any]] = []
        self.shutdowns = 0
        self.actors: list[Actor] = []
        self.here = threading.local()

    def is_initialized(self) -> bool:
        return False

    def find_bootstrap_address(self, _: None) -> str | None:
        return self.found

    def init(self, address: str, **options: object) -> None:
        assert "RAY_ADDRESS" not in os.environ  # it would come before the argument
        self.addresses.append(address)
        if address not in ("local", "auto"):
            raise ConnectionError("no cluster")

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address=self.gcs_address)

    def shutdown(self) -> None:
        self.shutdowns += 1
        for actor in self.actors:
            actor.die()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(self.room)}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.room)}

    def available_resources(self) -> dict[str, float]:
        return {"CPU": float(self.free)}

    def remote(self, kind: Callable[..., Any]) -> Any:
        self.exported.append(kind)

        def options(**asked: Any) -> SimpleNamespace:
            return SimpleNamespace(remote=lambda *args: Actor(self, kind, args, asked))

        return SimpleNamespace(options=options)

    def kill(self, handle: Actor) -> None:
        handle.die()

    def die_here(self) -> None:
        """Kill the actor whose call this is, in the middle of it."""
        self.here.actor.die()
        raise SystemExit


class Actor:
    """Lives once there is room; calls wait until then."""

    def __init__(self, ray: FakeRay, kind: Callable[..., Any], args: Any, asked: Any) -> None:
        self.ray, self.asked = ray, asked
        self._make = lambda: kind(*pickle.loads(pickle.dumps(args)))
        self._pool: ThreadPoolExecutor | None = None
        self._calls: list[tuple[str, Any, Future[Any]]] = []
        self._lock = threading.RLock()
        self.is_dead = False
        ray.actors.append(self)
        self.begin()

    def begin(self) -> None:
        with self._lock:
            if self._pool or self.is_dead or not self.ray.free:
                return
            self.ray.free -= 1
            self._object = self._make()
            self._pool = ThreadPoolExecutor(self.asked["max_concurrency"])
            for call in self._calls:
                self._pool.submit(self._run, *call)

    def die(self) -> None:
        with self._lock:
            if self.is_dead:
                return
            self.is_dead = True
            self.ray.free += self._pool is not None
            for _, _, future in self._calls:
                with suppress(InvalidStateError):
                    future.set_exception(ActorDiedError("The actor died.\n\tactor_id: 1"))
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for actor in self.ray.actors:
            actor.begin()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self._call(name, args))

    def _call(self, name: str, args: Any) -> SimpleNamespace:
        future: Future[Any] = Future()
        call = name, pickle.loads(pickle.dumps(args)), future
        with self._lock:
            self._calls.append(call)
            if self.is_dead:
                future.set_exception(ActorDiedError("The actor is dead."))
            elif self._pool:
                self._pool.submit(self._run, *call)
        return SimpleNamespace(future=lambda: future)

    def _run(self, name: str, args: Any, future: Future[Any]) -> None:
        self.ray.here.actor = self
        try:
            result = pickle.loads(pickle.dumps(getattr(self._object, name)(*args)))
        except Exception as error:
            task_error = type("TaskError", (RayTaskError, type(error)), {})
            with suppress(InvalidStateError):
                future.set_exception(task_error(str(error)))
        except SystemExit:
            return
        else:
            with suppress(InvalidStateError):
                future.set_result(result)
