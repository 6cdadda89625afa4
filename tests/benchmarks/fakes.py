"""Stand-ins for what a benchmark meets: workers, clocks, events, the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from maxim_deploy.benchmarks.timing import Timed, Warmup
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.errors import BackendError
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.traffic import Traffic


class FakeClock:
    """A clock that moves only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def takes(self, *seconds: float) -> Callable[[], None]:
        """A subject whose runs take so long, one after the other; the last repeats."""
        left = list(seconds)
        return lambda: self.sleep(left.pop(0) if len(left) > 1 else left[0])


class FakePsutil:
    """Two processors for ten seconds, of which so many were used."""

    NoSuchProcess = LookupError

    def __init__(self) -> None:
        self.busy, self.idle, self.own, self.children = 100.0, 900.0, {}, 0.0

    def cpu_times(self) -> tuple:
        from collections import namedtuple

        kind = namedtuple("scputimes", "user system idle iowait steal guest")  # type: ignore[name-match]
        return kind(self.busy, 0.0, self.idle, 0.0, 0.0, 5.0)

    def Process(self, pid: int):  # noqa: N802
        if pid not in self.own:
            raise self.NoSuchProcess(pid)
        times = SimpleNamespace(
            user=self.own[pid], system=0.0, children_user=self.children, children_system=0.0
        )
        return SimpleNamespace(cpu_times=lambda: times)


class FakeEvents:
    """`torch.cuda`, where it is asked for events."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    def Event(self, enable_timing: bool):  # noqa: N802
        assert enable_timing
        self.order.append("made")
        return self

    def record(self) -> None:
        self.order.append("recorded")

    def synchronize(self) -> None:
        self.order.append("waited")

    def elapsed_time(self, end: object) -> float:
        return 1.5


class FakeWorker:
    """Stands for a process. What it does is in the name of the file that it loads.

    "VALUE", "VALUE after WORK" to fail at some kind of work, "none" to fail while loading.
    """

    workloads: ClassVar[list[Workload]] = []
    order: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, workload: Workload) -> None:
        self.name = Path(workload.file).name
        if self.name == "none":
            raise BackendError("there is none")
        self.workload, self.pid, self.idle_cpu_s, self.brackets = (
            workload,
            1,
            0.0,
            ["network", "image"],
        )
        self.loaded = {
            "library": "fake 1", "device": "cpu", "io": "tensor", "load_s": 0.5,
            "baseline_bytes": 1000,
        }  # fmt: skip
        FakeWorker.workloads.append(workload)

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def _work(self, what: str) -> None:
        if self.name.endswith(f"after {what}"):
            raise BackendError(f"broke in {what}")

    def first(self) -> dict[str, Any]:
        self._work("first")
        return {
            "first_call_ms": 30.0, "peak_bytes": 90_000, "run_peak_bytes": 1000 + 64 * 128 * 5,
            "device_bytes": None,
        }  # fmt: skip

    def save(self, file: Path) -> None:
        np.save(file, np.full((1, 2, 2, 3), float(self.name.split()[0]), np.float32))

    def warm_up(self, bracket: str, longest_s: float) -> Warmup:
        self._work("warm_up")
        return Warmup(2, bracket == "network")

    def turn(self, bracket: str, least_s: float) -> list[Timed]:
        self._work("turn")
        FakeWorker.order.append((self.name, bracket))
        return [Timed(10.0), Timed(12.0)]

    def load(self, **asked: Any) -> dict[str, Any]:
        self._work("load")
        return {**asked, "offered_per_s": asked["rate"], "images_per_s": 100.0, "latency": {}}


class FakeRoofline:
    def graph_facts(self, graph: Path, io: str) -> dict[str, Any]:
        return {"nodes": 7}

    def cost(self, graph: Path, io: str, **facts: Any) -> dict[str, Any]:
        return {"share": 0.5, **facts}

    def bound(self, traffic: Traffic, graph: Path, io: str, shape: Shape, **facts: Any) -> Any:
        return {"shape": str(shape), "bytes_per_pixel": traffic.bytes_per_pixel, **facts}


class FakeListener:
    pass
